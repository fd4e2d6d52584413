"""The subcommands of ganclient, one file each; `client.__main__` combines them."""

from __future__ import annotations

import os

# gRPC reads this when it is imported. Its log would clutter the one-line errors.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
