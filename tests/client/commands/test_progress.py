from __future__ import annotations

from pathlib import Path

from tests.client.fake_server import FakeServer
from tests.client.test_main import on_a_terminal


def test_a_terminal_shows_a_progress_bar_only_for_several_chunks(server: FakeServer, tmp_path: Path) -> None:
    arguments = ["grid", "--model", "dcgan", "--address", server.address, "--n"]
    exit_code, shown = on_a_terminal([*arguments, "300"], tmp_path)
    assert exit_code == 0, shown
    assert "300/300" in shown
    assert "300 images of dcgan:3" in shown
    exit_code, shown = on_a_terminal([*arguments, "30"], tmp_path)
    assert exit_code == 0, shown
    assert "30/30" not in shown
