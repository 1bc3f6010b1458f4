"""What runs by itself in the process that writes."""
