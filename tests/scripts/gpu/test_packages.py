from __future__ import annotations

import re
import tomllib
from pathlib import Path

from scripts.gpu.packages import CARRIED, pins

ROOT = Path(__file__).parents[3]
ON_THE_MACHINE = {"jinja2", "matplotlib", "numpy", "onnx", "pillow", "scikit-learn", "torch", "torchvision"}


def test_every_package_that_the_stages_need_is_carried_or_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = [*project["dependencies"]]
    for extra in ("train", "export", "serve"):
        requirements += project["optional-dependencies"][extra]
    # onnxruntime-gpu is carried; onnxruntime is for machines without CUDA.
    names = {re.split(r"[\[<>=!; ]", requirement)[0] for requirement in requirements} - {"ganserve", "onnxruntime"}
    assert names - ON_THE_MACHINE - set(CARRIED) == set()
    assert names >= ON_THE_MACHINE


def test_of_two_pins_the_one_for_the_python_of_the_machine_counts(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("numpy==2.4.6 ; python_full_version < '3.12' \\\nnumpy==2.5.5 ; python_full_version >= '3.12' \\\n")
    assert pins(lock, ("numpy",)) == ["numpy==2.5.5"]
