"""Serves methods on a front, for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from server.fronts.aio import AioFront
from server.fronts.base import MakeFront, Methods
from server.fronts.core import CoreFront

FRONTS: Final[dict[str, MakeFront]] = {"aio": AioFront, "core": CoreFront}


@asynccontextmanager
async def served(
    methods: Methods, front: str, options: Sequence[tuple[str, int]] = (), max_calls: int = 1000
) -> AsyncIterator[str]:
    """Yields the address at which a front serves methods."""
    server = FRONTS[front](methods, options, max_calls)
    port = server.add_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)
