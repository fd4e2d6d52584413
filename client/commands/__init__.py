"""The subcommands of ganclient, one file each; `client.__main__` puts them together."""

from __future__ import annotations

import os

# Before gRPC is imported, which reads it then: its log would stand around the one line that says what failed.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
