"""What every front promises to handlers and clients."""

from __future__ import annotations
