"""The core front on the oldest and the newest grpcio that pyproject.toml allows: it stands on a private interface."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FILES = ["test_base.py", "test_base_empty_calls.py", "test_core.py", "test_core_library.py", "test_core_stream.py"]
UV = shutil.which("uv", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
OLDEST = re.search(r'"grpcio>=([0-9.]+)"', (ROOT / "pyproject.toml").read_text())


@pytest.mark.slow
@pytest.mark.skipif(UV is None, reason="uv is not installed; pip install uv")
@pytest.mark.parametrize("which", ["oldest", "newest"])
def test_the_promises_of_a_front_hold(which: str, tmp_path: Path) -> None:
    assert OLDEST is not None
    assert UV is not None
    wanted = f"grpcio=={OLDEST[1]}" if which == "oldest" else "grpcio"
    packages = tmp_path / "packages"
    install = [
        UV,
        "pip",
        "install",
        "--quiet",
        "--python",
        sys.executable,
        "--no-deps",
        "--target",
        str(packages),
        wanted,
    ]
    subprocess.run(install, check=True, timeout=250)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (packages, ROOT)))}
    version = subprocess.run(
        [sys.executable, "-c", "import grpc; print(grpc.__version__, grpc.__file__)"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert str(packages) in version
    tests = [f"tests/server/fronts/{name}" for name in FILES]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-q", *tests],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert run.returncode == 0, f"{version}\n{run.stdout[-5000:]}"
