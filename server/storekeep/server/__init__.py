"""The Storekeep server: configuration, composition root, interceptors, servicers, domain and store.

gRPC's own log is off unless GRPC_VERBOSITY asks for it: its lines are not JSON, and would stand between those of the
log and beside what a refusal says. gRPC reads the setting when it is imported, so it is made here.
"""

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")
