"""The state of one request on its way through the server.

The request handler creates it, a service fills it in, and metrics and the access log read it at the end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from server.trace_context import TraceContext


class Pinned(Protocol):
    """A `ServedModel` that stays open until `leave`."""

    def leave(self) -> None:
        """Lets it close."""


@dataclass(slots=True, eq=False)
class InFlightRequest:
    """One unary request, or one message of a stream, from its arrival until its answer is sent.

    `Catalog.find` sets `model`, `version` and `pinned`; services set `rows` and the phases as soon as they are known.
    """

    method: str  # without the service: "Generate", "ModelInfer"
    began_s: float  # time.perf_counter() at its arrival
    deadline: float = math.inf  # the caller's, on the event loop's clock
    request_id: str = ""  # for logs: the id that the client sent, or a generated one
    trace: TraceContext | None = None  # for logs: the caller's span, later our own; None without one
    message_id: str = ""  # the id in an Open Inference message, as it was sent
    model: str = ""  # as the client sent it, whether or not it is served
    version: int = 0  # the served version; 0 until one is found
    rows: int = 0
    admission_s: float | None = None  # from arrival until the rows can be queued; includes reading images
    compute_s: float | None = None  # from then until all images are computed: queue, gather, compute, scatter
    encode_s: float | None = None  # from then until the answer is serialised
    pinned: Pinned | None = None  # the model, open until the answer is made
    inside: bool = False  # whether the gate counts it
    answer_bytes: int = 0  # size of the answer until it is sent
