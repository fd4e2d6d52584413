"""One request on its way through the server: what everyone who handles it needs to know, and what they note about it.

Made and ended by handler.py, filled in by a service, and told to metrics and the access log at the end. Knows no
protocol.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol


class Usable(Protocol):
    """What a request uses until it is answered: a `ServedModel`."""

    def enter(self) -> None:
        """Keeps it from being closed until `leave`."""

    def leave(self) -> None:
        """Undoes one `enter`."""


@dataclass(slots=True, eq=False)
class Call:
    """One request.

    A service notes `model` (as the caller spelt it, whether or not there is one), `version`, `rows` and the phases as
    soon as it knows them, and calls `use` with what it found.
    """

    method: str  # without the service: "Generate", "ModelInfer"
    began_s: float  # time.perf_counter() of its arrival
    remaining_s: float | None = None  # until the caller's deadline, when it arrived; None if it set none
    deadline: float = math.inf  # the same, on the event loop's clock
    request_id: str = ""  # the caller's, or one that was made up for the log
    model: str = ""
    version: int = 0
    rows: int = 0
    admission_s: float | None = None  # from arrival until the rows could be queued; reading images included
    compute_s: float | None = None  # from then until all images were there: queue, batch gather and computing
    encode_s: float | None = None  # from then until the answer was serialised
    _used: Usable | None = field(default=None, init=False)

    def use(self, model: Usable) -> None:
        """Keeps a model from being closed until the call ends; on the event loop, without a pause since it was found.

        At most once a call.
        """
        model.enter()
        self._used = model

    def end(self) -> None:
        """Lets go of the model. Safe to call twice."""
        if self._used is not None:
            self._used.leave()
            self._used = None
