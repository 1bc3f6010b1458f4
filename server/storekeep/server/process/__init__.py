"""What one server process does around serving: its console, signals, reloads, health check and inspections."""
