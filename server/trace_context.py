"""The trace that a request belongs to, from the header `traceparent` of W3C Trace Context, which is untrusted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

KEY: Final = "traceparent"
# Version, trace id, id of the caller's span, flags. Later versions may add fields after another dash.
_HEADER: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_MAX_LENGTH: Final = 512  # characters


class TraceContext(NamedTuple):
    """A span: the caller's, or our own."""

    trace_id: str  # 32 hexadecimal digits
    span_id: str  # 16 hexadecimal digits
    flags: int = 0  # bit 0: sampled


def read_traceparent(text: str) -> TraceContext | None:
    """The caller's span; None if the header is malformed, which W3C says to ignore."""
    match = _HEADER.fullmatch(text) if len(text) <= _MAX_LENGTH else None
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    is_known = version == "00" and more is None
    is_later = version not in {"00", "ff"}
    if not (is_known or is_later) or not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return TraceContext(trace_id, span_id, int(flags, 16))


def sent_trace(metadata: Iterable[tuple[str, str | bytes]] | None) -> TraceContext | None:
    """The caller's span in the metadata of a request; None if there is none, or more than one."""
    values = [value for key, value in metadata or () if key == KEY]
    return read_traceparent(values[0]) if len(values) == 1 and isinstance(values[0], str) else None
