"""Tests for server.rest.reply."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any

import pytest

from server.errors import QueueFull, ServerError, Unauthenticated
from server.rest import reply
from server.rest.refusal import Refusal
from server.rest.reply import STATUS_OF, Reply, error_reply, json_reply
from tests.server.behaviours import REFUSALS


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: type(error).__name__)
def test_every_error_of_the_server_has_a_status(error: ServerError) -> None:
    made = error_reply(error)
    assert made.status == STATUS_OF[error.code] >= 400
    assert json.loads(b"".join(made.parts)) == {"error": str(error)}


@pytest.mark.parametrize(("wait_ms", "after"), [(None, "1"), (10, "1"), (1001, "2"), (30_000, "30")])
def test_a_full_queue_says_when_to_try_again(wait_ms: int | None, after: str) -> None:
    assert ("retry-after", after) in error_reply(QueueFull("full", wait_ms)).headers


def test_a_missing_token_is_asked_for() -> None:
    assert ("www-authenticate", "Bearer") in error_reply(Unauthenticated("no token")).headers


def test_a_refusal_keeps_its_status() -> None:
    assert error_reply(Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "large")).status == 413


async def test_a_body_is_sent_in_pieces_with_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply, "_CHUNK_BYTES", 4)
    messages: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    await Reply([b"abcdef", memoryview(b"gh")]).send(send)
    head, *pieces = messages
    assert (b"content-length", b"8") in head["headers"]
    assert [bytes(piece["body"]) for piece in pieces] == [b"abcd", b"ef", b"gh"]
    assert [piece["more_body"] for piece in pieces] == [True, True, False]


async def test_an_empty_body_is_sent_too() -> None:
    messages: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    await Reply([]).send(send)
    assert [message["type"] for message in messages] == ["http.response.start", "http.response.body"]
    assert not messages[1]["more_body"]


async def test_a_client_that_reads_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply, "STALL_S", 0.01)

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await json_reply({}).send(send)
