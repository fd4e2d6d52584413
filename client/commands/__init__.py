"""The subcommands of ganclient, one file each; `client.__main__` registers them."""

from __future__ import annotations

import os

# Silences gRPC, whose log would clutter the one-line errors; gRPC reads this on import.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
