"""Running one server process: start to exit, console, signals, reloads, health check and inspections."""
