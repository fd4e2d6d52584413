"""Waits for a moment in which a stop loses nothing."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Final

from server.gate import Gate

LOOK_INTERVAL_S: Final = 0.02
QUIET_LOOKS: Final = 3  # in a row; between two looks, the loop picks up calls that gRPC has received


async def wait_until_quiet(gate: Gate, unsent_bytes: Callable[[], int], patience_s: float) -> bool:
    """Waits until no request is inside, none comes, and all answers have reached the machines of their clients.

    Gives up `patience_s` after a request has come, because its client needs to be told to leave, and when the last
    answers have not moved for so long, because their clients do not read.

    Returns:
        Whether it is quiet.
    """
    loop = asyncio.get_running_loop()
    moved_s = loop.time()
    came_s = math.inf
    looks, last_entered, last_unsent = 0, gate.entered, 0
    while looks < QUIET_LOOKS:
        await asyncio.sleep(LOOK_INTERVAL_S)
        now_s = loop.time()
        unsent = 0 if gate.inside else unsent_bytes()
        is_quiet = gate.entered == last_entered and not gate.inside and not unsent
        looks = looks + 1 if is_quiet else 0
        if gate.entered != last_entered:
            came_s = min(came_s, now_s)
        if gate.inside or unsent != last_unsent:
            moved_s = now_s
        last_entered, last_unsent = gate.entered, unsent
        if not is_quiet and now_s - min(came_s, moved_s) >= patience_s:
            return False
    return True
