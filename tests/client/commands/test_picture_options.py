from __future__ import annotations

import platform
import re
import sys
from pathlib import Path

import click
import pytest

from tests.client.fake_server import FakeServer
from tests.client.test_main import run

KITTY = re.compile(r"\x1b_G([^;]*);([A-Za-z0-9+/=]*)\x1b\\")


def test_a_preview_is_shown_on_request_and_otherwise_not_in_pipes(server: FakeServer, here: Path) -> None:
    arguments = ["grid", "--model", "dcgan", "--n", "4", "--seed", "7"]
    plain = run(*arguments, address=server.address)
    asked = run(*arguments, "--preview", address=server.address)
    assert plain.stdout == "grid.png: 4 images of dcgan:3 (seed 7)\n"
    assert asked.exit_code == 0, asked.output
    assert "▀" in asked.stdout
    assert asked.stdout.endswith(plain.stdout)
    both = run(*arguments, "--preview", "--json", address=server.address)
    assert both.exit_code == 2
    assert "--preview and --json: both print to stdout" in both.stderr


def test_the_written_file_is_opened_on_request(server: FakeServer, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def launch(url: str) -> int:
        opened.append(url)
        return len(opened) - 1  # the second time there is no viewer

    monkeypatch.setattr(click, "launch", launch)
    monkeypatch.setenv("DISPLAY", ":0")
    arguments = ["grid", "--model", "dcgan", "--n", "4", "--seed", "7", "--open"]
    assert run(*arguments, address=server.address).stderr == ""
    again = run(*arguments, address=server.address)
    assert opened == [str(here / "grid.png")] * 2
    assert again.exit_code == 0
    assert again.stderr == "grid.png: no viewer is available; leave out --open\n"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere there always is a desktop")
def test_without_a_desktop_nothing_is_opened(server: FakeServer, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(click, "launch", lambda url: pytest.fail(f"{url} was opened"))
    monkeypatch.setattr(platform, "release", lambda: "6.1.0-amd64")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    result = run("grid", "--model", "dcgan", "--n", "4", "--open", address=server.address)
    assert (result.exit_code, result.stderr) == (
        0,
        "grid.png: no viewer is available; leave out --open\n",
    )
