"""The shell completion of model names."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from client.__main__ import cli
from tests.client.fake_server import FakeServer, model


def completions(*words: str, typed: str = "") -> list[str]:
    completer = ShellComplete(cli, {}, "ganclient", "_GANCLIENT_COMPLETE")
    return [item.value for item in completer.get_completions(list(words), typed)]


@pytest.fixture
def served(server: FakeServer) -> FakeServer:
    server.models.append(model("digits"))
    return server


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["grid", "--model"], ["dcgan", "digits"]),
        (["sample", "--n", "7", "--model"], ["dcgan", "digits"]),
        (["traverse", "--model"], ["dcgan", "digits"]),
        (["translate", "pictures", "--model"], ["a2b"]),
        (["info"], ["a2b", "dcgan", "digits"]),
        (["health", "--model"], ["a2b", "dcgan", "digits"]),
    ],
)
def test_models_for_the_task_are_offered(words: list[str], expected: list[str], served: FakeServer) -> None:
    command, *rest = words
    assert completions(command, "--address", served.address, *rest) == expected


def test_only_names_with_the_typed_prefix_are_offered(served: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANSERVE_ADDRESS", served.address)
    assert completions("grid", "--model", typed="di") == ["digits"]


def test_nothing_is_offered_without_a_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GANSERVE_ADDRESS", f"unix:{tmp_path / 'nobody'}")
    assert completions("grid", "--model") == []


@pytest.mark.parametrize("words", [["--address", "nonsense"], ["--address", ""], ["--address"]])
def test_nothing_is_offered_for_an_invalid_address(words: list[str]) -> None:
    assert completions("grid", *words, "--model") == []


@pytest.mark.parametrize("name", ["a$(touch${IFS}b)", "a`b`", "a;b", "a b", "a>b", "~"])
def test_names_that_need_quoting_are_not_offered(name: str, served: FakeServer) -> None:
    served.models.append(model(name))
    assert completions("grid", "--address", served.address, "--model") == ["dcgan", "digits"]


def test_a_missing_token_file_does_not_break_completion(served: FakeServer) -> None:
    assert completions("grid", "--address", served.address, "--token-file", "missing", "--model") == []
