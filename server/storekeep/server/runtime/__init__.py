"""What everything runs on: admission control, tasks, ports, secrets and files. Knows nothing of the other rooms."""
