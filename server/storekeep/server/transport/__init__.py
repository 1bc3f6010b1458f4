"""gRPC below the chain: events, calls, executors, connections, TLS, health, reflection and leadership."""
