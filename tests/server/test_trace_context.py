from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.trace_context import TraceContext, read_traceparent, sent_trace

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
EXAMPLE = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("text", "flags"),
    [(EXAMPLE, 1), (f"00-{TRACE}-{SPAN}-00", 0), (f"cc-{TRACE}-{SPAN}-03", 3), (f"01-{TRACE}-{SPAN}-01-more", 1)],
)
def test_a_valid_header_is_read(text: str, flags: int) -> None:
    assert read_traceparent(text) == TraceContext(TRACE, SPAN, flags)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        EXAMPLE.upper(),
        f" {EXAMPLE}",
        f"{EXAMPLE}\n",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"01-{TRACE}-{SPAN}-01-" + "x" * 500,
        f"00-{TRACE[:-1]}٣-{SPAN}-01",
    ],
)
def test_a_malformed_header_is_ignored(text: str) -> None:
    assert read_traceparent(text) is None


@given(st.text(st.characters(), max_size=80))
def test_any_text_is_read_or_ignored(text: str) -> None:
    found = read_traceparent(text)
    assert found is None or (found.trace_id.isascii() and len(found.trace_id) == 32)


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        (None, None),
        ([], None),
        ([("x-request-id", EXAMPLE)], None),
        ([("a", "b"), ("traceparent", EXAMPLE)], TraceContext(TRACE, SPAN, 1)),
        ([("traceparent", EXAMPLE), ("traceparent", EXAMPLE)], None),
        ([("traceparent", EXAMPLE.encode())], None),
    ],
)
def test_only_a_single_text_counts(metadata: list[tuple[str, str | bytes]] | None, found: TraceContext | None) -> None:
    assert sent_trace(metadata) == found
