from __future__ import annotations

import grpc
import pytest

from client import (
    AccessDenied,
    DeadlineExceeded,
    GanClient,
    GanClientError,
    InvalidRequest,
    ServerBusy,
    ServerFault,
    UnknownModel,
    UnsupportedByServer,
)
from client.errors import one_line
from tests.client.fake_server import FakeServer

Code = grpc.StatusCode


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (Code.NOT_FOUND, UnknownModel),
        (Code.INVALID_ARGUMENT, InvalidRequest),
        (Code.OUT_OF_RANGE, InvalidRequest),
        (Code.RESOURCE_EXHAUSTED, ServerBusy),
        (Code.DEADLINE_EXCEEDED, DeadlineExceeded),
        (Code.INTERNAL, ServerFault),
        (Code.UNKNOWN, ServerFault),
        (Code.UNIMPLEMENTED, UnsupportedByServer),
        (Code.CANCELLED, ServerFault),
        (Code.PERMISSION_DENIED, AccessDenied),
        (Code.UNAUTHENTICATED, AccessDenied),
    ],
)
def test_every_status_becomes_one_error_with_the_servers_text(
    server: FakeServer, client: GanClient, status: grpc.StatusCode, kind: type[GanClientError]
) -> None:
    server.failures.append((status, "the server's\n own \x1b[31mtext"))
    with pytest.raises(kind) as raised:
        client.generate("dcgan")
    assert type(raised.value) is kind
    assert "the server's own ?[31mtext" in str(raised.value)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("text", "line"),
    [("two\nlines\tand  blanks", "two lines and blanks"), ("\x1b[31mred", "?[31mred"), ("größe", "größe")],
)
def test_one_line_has_no_control_characters(text: str, line: str) -> None:
    assert one_line(text) == line
