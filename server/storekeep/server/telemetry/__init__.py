"""What a server reports about itself: logs, counts, Prometheus metrics and health endpoints."""
