"""Installs the rivals, each in its own virtual environment, with uv.

    python -m benchmarks.peers.setup [--peer-home DIR] [--only triton,mlserver,mosec]

The last file written marks an environment as complete; an incomplete one is created again.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import click
import onnxruntime

from benchmarks.peers.homes import ENVIRONMENTS, TRITON, Environment, default_home, triton_backends

_USER_ERROR = 2


class SetupError(Exception):
    """A rival cannot be set up; the message says what to do."""


def create(environment: Environment, home: Path, uv: str, system_python: str) -> None:
    """Creates an environment, or replaces it.

    Raises:
        SetupError: uv or the interpreter failed.
    """
    python = system_python if environment.system_python else sys.executable
    folder = environment.folder(home)
    _run([uv, "venv", "--quiet", "--clear", "--python", python, str(folder)])
    packages = [*environment.packages, f"onnxruntime=={onnxruntime.__version__}", "numpy"]
    _run([uv, "pip", "install", "--quiet", "--python", str(environment.python(home)), *packages])
    if environment is TRITON:
        _lay_out_triton(home)
    environment.mark_ready(home)


def _lay_out_triton(home: Path) -> None:
    """Copies the Python backend and the stub for this Python into one folder, as Triton requires."""
    site_packages = TRITON.site_packages(home)
    wheel = site_packages / "pytriton" / "tritonserver"
    version = site_packages.parent.name.removeprefix("python")
    stub = wheel / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        there = ", ".join(sorted(folder.name for folder in stub.parent.parent.iterdir()))
        raise SetupError(f"--system-python is Python {version}; Triton's Python backend has stubs for {there} only")
    missing = [line.split()[0] for line in _run(["/usr/bin/ldd", str(stub)]).splitlines() if "not found" in line]
    if missing:
        raise SetupError(f"Triton's Python backend needs {', '.join(missing)}; install it (Debian: libpython{version})")
    backend = triton_backends(home) / "python"
    shutil.copytree(wheel / "backends" / "python", backend)
    shutil.copy2(stub, backend)


def _run(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        detail = " ".join(str(getattr(error, "stderr", "") or error).split())
        raise SetupError(f"{Path(command[0]).name} failed: {detail}") from error


def _find_uv() -> str:
    own = Path(sys.executable).with_name("uv")
    found = str(own) if own.is_file() else shutil.which("uv")
    if found is None:
        raise SetupError("uv is not installed; install it, for example with pip install uv")
    return found


def _parse_names(_: click.Context, __: click.Parameter, value: str) -> list[Environment]:
    unknown = [name for name in value.split(",") if name not in ENVIRONMENTS]
    if unknown:
        raise click.BadParameter(f"{unknown[0]!r}: choose from {', '.join(ENVIRONMENTS)}")
    return [ENVIRONMENTS[name] for name in value.split(",")]


@click.command(context_settings={"show_default": True})
@click.option("--peer-home", type=click.Path(file_okay=False, path_type=Path), default=default_home)
@click.option("--only", callback=_parse_names, default=",".join(ENVIRONMENTS), help="Environments to set up.")
@click.option("--system-python", default="/usr/bin/python3", help="A Python whose libpython the linker finds.")
@click.option("--force", is_flag=True, help="Recreate environments that are already set up.")
def main(peer_home: Path, only: list[Environment], system_python: str, *, force: bool) -> None:
    """Installs the rivals."""
    try:
        uv = _find_uv()
        peer_home.mkdir(parents=True, exist_ok=True)
        for environment in only:
            if environment.is_ready(peer_home) and not force:
                click.echo(f"{environment.name}: already set up in {environment.folder(peer_home)}")
                continue
            click.echo(f"{environment.name}: installing {' '.join(environment.packages)}")
            create(environment, peer_home, uv, system_python)
    except (SetupError, OSError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(_USER_ERROR)
    click.echo(f"the rivals are in {peer_home}")


if __name__ == "__main__":
    main()
