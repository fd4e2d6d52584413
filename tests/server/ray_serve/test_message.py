"""Tests for server.ray_serve.message."""

from __future__ import annotations

from server.ray_serve.message import Message


def test_it_serialises_to_its_bytes_without_a_copy() -> None:
    body = b"some bytes"
    assert Message(body).SerializeToString() is body
