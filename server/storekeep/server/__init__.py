"""The Storekeep server: configuration, composition root, interceptors, servicers, domain and store.

Turns gRPC's own log off unless GRPC_VERBOSITY is set: its lines are not JSON and would mix with the server's log and
error lines. gRPC reads the variable when it is imported, so it is set here.
"""

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")
