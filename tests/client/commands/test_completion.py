from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.client.fake_server import FakeServer, model
from tests.client.test_main import run


@pytest.fixture
def served(server: FakeServer) -> FakeServer:
    server.models.append(model("digits"))
    return server


@pytest.mark.skipif(shutil.which("bash") is None, reason="NO BASH: its script was not tried")
def test_the_script_makes_bash_complete(served: FakeServer, tmp_path: Path) -> None:
    command = tmp_path / "ganclient"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m client "$@"\n')
    command.chmod(0o755)
    script = """
        eval "$(ganclient completion bash)"
        COMP_WORDS=(ganclient grid --model d) COMP_CWORD=3
        _ganclient_completion ganclient
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[3])}
        | {"GANSERVE_ADDRESS": served.address},
    )
    assert done.stdout.split() == ["dcgan", "digits"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(shell: str) -> None:
    result = run("completion", shell)
    assert result.exit_code == 0
    assert "_GANCLIENT_COMPLETE" in result.stdout


def test_an_unknown_shell_is_refused() -> None:
    result = run("completion", "tcsh")
    assert result.exit_code == 2
    assert "'tcsh' is not one of" in result.stderr
