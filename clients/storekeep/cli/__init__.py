"""The admin command line: `storekeep`.

gRPC's own log is off unless GRPC_VERBOSITY asks for it: it would stand between the lines of a table, and what went
wrong is told by the command. gRPC reads the setting when it is imported, so it is made here.
"""

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")
