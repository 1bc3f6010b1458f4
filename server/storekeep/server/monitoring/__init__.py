"""What a server tells of itself to programs: counts of its calls, and pages of metrics and health over HTTP."""
