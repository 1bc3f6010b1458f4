"""The admin command line: `storekeep`.

gRPC's log is off unless GRPC_VERBOSITY is set: it would interrupt tables, and commands report errors themselves. gRPC
reads the variable when it is imported, so it is set here.
"""

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")
