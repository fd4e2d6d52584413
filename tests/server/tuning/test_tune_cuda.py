"""What `python -m server tune` measures where a driver shows CUDA devices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ganserve.bundle import Card, read_card
from server.__main__ import main
from server.config import ServerConfig
from server.engines.base import cuda_devices
from server.engines.profile import Layout, read_profile
from server.errors import StartupError
from server.tuning.tune import plan_layouts
from tests.server.scheduling.fake_instances import FakeTime
from tests.server.tiny_bundles import publish_tiny_bundle


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "profile.json"


def command(*flags: str) -> Any:
    return CliRunner().invoke(main, flags, prog_name="python -m server")


@pytest.mark.skipif(cuda_devices() > 0, reason="CUDA works here")
def test_cuda_that_is_not_there_is_one_line(repository: Path, out: Path) -> None:
    result = command("tune", "--models", str(repository), "--device", "cuda", "--out", str(out))
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith("Error: --device cuda: the NVIDIA driver shows no device")


def test_cuda_is_measured_with_the_instances_the_server_would_have(
    repository: Path, config: ServerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    class Loaded:
        class groups:  # noqa: N801 - stands for an object
            instances = FakeTime().loader(lambda *_: 1e-3)(Layout("onnx", "fp32", 2, 1))

    def load(*arguments: Any) -> type[Loaded]:
        asked.append(arguments)
        return Loaded

    monkeypatch.setattr("server.tuning.tune.cuda_devices", lambda: 2)
    monkeypatch.setattr("server.engines.loading.load_cuda_instances", load)
    folder = repository / "tiny" / "1"
    card = read_card(folder)
    auto = ServerConfig(models=repository)
    plan = plan_layouts(folder, card, auto)
    assert (plan.device, plan.layouts) == ("cuda:0", [Layout("onnx", "fp32", 2, 1)])
    assert plan.load(plan.layouts[0]) == Loaded.groups.instances
    assert asked == [(folder, card, auto, 64)]


@pytest.fixture
def dead_cuda(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A driver that shows a device that nothing can use; lists the models that were tried on it."""
    tried: list[str] = []

    def load(folder: Path, card: Card, *_: Any) -> Any:
        tried.append(card.name)
        raise StartupError("--device cuda: it is asleep")

    monkeypatch.setattr("server.tuning.tune.cuda_devices", lambda: 1)
    monkeypatch.setattr("server.engines.loading.load_cuda_instances", load)
    return tried


def test_cuda_that_does_not_work_is_tried_once_and_leaves_the_measuring_to_the_cpu(
    repository: Path, out: Path, dead_cuda: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    publish_tiny_bundle(repository, "other")
    result = command("tune", "--models", str(repository), "--seconds", "0.2", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert {tuned.device for tuned in read_profile(out).models.values()} == {"cpu"}
    assert dead_cuda == ["other"]
    assert caplog.messages == ["there is a CUDA device, but the CPU is measured: --device cuda: it is asleep"]


def test_cuda_that_was_asked_for_and_does_not_work_is_one_line(
    repository: Path, out: Path, dead_cuda: list[str]
) -> None:
    result = command("tune", "--models", str(repository), "--device", "cuda", "--out", str(out))
    assert result.exit_code == 2
    assert [line for line in result.stderr.splitlines() if line.startswith("Error: ")] == [
        "Error: --device cuda: it is asleep"
    ]
    assert dead_cuda == ["tiny"]
