"""Runs the commands of docs/operations.md, section by section, in a shell with job control."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs import serving_page
from tests.server.tiny_bundles import publish_tiny_bundle

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()
SECTIONS = dict(re.findall(r"^## ([^\n]*)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
TIMEOUT_S = 120

# Starts a server in the background and returns once it is ready, as a person would before the next command.
START = """
start() {
    "$@" > server.out 2>> server.err &
    for _ in $(seq 600); do
        grep -q '^ready:' server.out && return 0
        kill -0 $! || return 1
        sleep 0.1
    done
    return 1
}
"""


def commands(section: str) -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]


WITH_COMMANDS = {title: commands(text) for title, text in SECTIONS.items() if commands(text)}


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def script_of(lines: list[str]) -> str:
    """A shell script that runs the commands and ends at the first one that fails."""
    script = ["set -e", "set -m", START]
    for line in lines:
        is_server = "python -m server" in line and "--show-config" not in line
        script.append(f"start env {line}" if is_server else line)  # env takes variables before the program
    script.append("for server in $(jobs -p); do kill -TERM $server; wait $server; done")  # each exits with 0
    return "\n".join(script)


@pytest.mark.parametrize(("title", "lines"), WITH_COMMANDS.items(), ids=WITH_COMMANDS)
def test_the_commands_of_a_section_succeed(title: str, lines: list[str], tmp_path: Path) -> None:
    for program in ("bash", "curl", "openssl"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    for version in (1, 2):
        publish_tiny_bundle(tmp_path / "models", name="dcgan", version=version, latent_dim=100)
    for block in re.findall(r"```toml\n(.*?)```", SECTIONS[title], re.DOTALL):
        (tmp_path / "ganserve.toml").write_text(block)
    script = script_of(lines)
    ports = free_ports(3)
    for written, port in zip(("50051", "50052", "9095"), ports, strict=True):
        script = script.replace(f"127.0.0.1:{written}", f"127.0.0.1:{port}")
    addresses = {"GANSERVE_ADDRESS": f"127.0.0.1:{ports[0]}", "GANSERVE_METRICS_ADDRESS": f"127.0.0.1:{ports[2]}"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, **addresses, "PATH": path, "PYTHONPATH": str(ROOT), "GANSERVE_DEVICE": "cpu"}
    with subprocess.Popen(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            output, _ = shell.communicate(timeout=TIMEOUT_S)
        finally:
            if shell.poll() is None:
                os.killpg(shell.pid, signal.SIGKILL)
    log = (tmp_path / "server.err").read_text() if (tmp_path / "server.err").exists() else ""
    assert shell.returncode == 0, f"{script}\n{output}\n{log}"


def test_every_section_but_the_last_has_commands() -> None:
    assert list(SECTIONS)[:-1] == list(WITH_COMMANDS)


def test_flags_metrics_and_signals_on_the_page_are_those_of_serving() -> None:
    serving = serving_page.TEXT
    others = {
        "--fail",
        "--cacert",
        "--ulimit",
        "--restarts",
        "--through",
        "--tls-roots",
        "--out",
        "--model",
        "--n",
        "--collectors",
    }
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE)) - others - {"--newest"}
    assert not {flag for flag in flags if f"`{flag}`" not in serving}
    assert not {name for name in re.findall(r"ganserve_[a-z_]+", PAGE) if f"`{name}`" not in serving}
