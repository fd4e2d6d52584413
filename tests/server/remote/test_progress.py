from __future__ import annotations

import io
import sys

import pytest

from server.remote.progress import FetchProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_it_shows_the_file_and_how_much_of_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with FetchProgress() as bar:
        bar.show("tiny/1/model.onnx", 1_000_000, None)
        bar.show("tiny/[red]/model.onnx", 5_000_000, 20_000_000)
        bar.refresh()
    shown = terminal.getvalue()
    assert "tiny/[red]/model.onnx" in shown
    assert "5.0/20.0 MB" in shown


def test_elsewhere_it_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with FetchProgress() as bar:
        bar.show("tiny/1/model.onnx", 5, 20)
    assert not stream.getvalue()
