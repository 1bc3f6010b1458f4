"""gRPC below the interceptors: events, calls, executors, connections, TLS, health, reflection and leader election."""
