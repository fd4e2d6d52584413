from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from ganserve.bundle import OUTPUT_IMAGES, OUTPUT_PIXELS, BundleError, Card, read_card
from ganserve.latents import latents_from_seed
from server.config import BACKENDS, Backend, ServerConfig
from server.engines.base import Engine, cuda_devices
from server.engines.bf16 import load_bf16_instances
from server.engines.loading import (
    load_cuda_instances,
    load_engine,
    load_instances,
    measure_limits,
)
from server.errors import StartupError
from server.scheduling.instances import Instance
from server.scheduling.queue import Outputs
from tests.server.endless_graphs import loop_forever_if_large
from tests.server.tiny_bundles import publish_tiny_bundle, tiny_images

IMAGES = frozenset({OUTPUT_IMAGES})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return publish_tiny_bundle(tmp_path, torchscript=True)


@pytest.mark.skipif(cuda_devices() > 0, reason="CUDA works here")
@pytest.mark.parametrize("backend", BACKENDS)
def test_broken_cuda_that_was_requested_is_an_error(folder: Path, backend: Backend) -> None:
    with pytest.raises(StartupError, match=r"--device cuda: .* use --device cpu"):
        load_instances(folder, read_card(folder), ServerConfig(backend=backend, device="cuda"))


@pytest.mark.skipif(cuda_devices() > 0, reason="CUDA works here")
@pytest.mark.parametrize("backend", BACKENDS)
def test_auto_uses_the_cpu_without_cuda(folder: Path, backend: Backend, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    assert load_instances(folder, read_card(folder), ServerConfig(backend=backend)).device == "cpu"
    assert capfd.readouterr() == ("", "")


@pytest.mark.gpu
@pytest.mark.skipif(cuda_devices() == 0, reason="no CUDA device")
@pytest.mark.parametrize("backend", BACKENDS)
def test_cuda_matches_the_cpu(folder: Path, backend: Backend) -> None:
    loaded = load_instances(folder, read_card(folder), ServerConfig(backend=backend, device="cuda"))
    assert loaded.device.startswith("cuda:0")
    latents = latents_from_seed(5, 7, 4)
    for instance in loaded.groups.instances:
        np.testing.assert_allclose(
            instance.run(latents, IMAGES)[OUTPUT_IMAGES], tiny_images(latents), atol=5e-3
        )  # TF32
    loaded.groups.close()


def test_broken_cuda_falls_back_to_the_cpu_with_a_warning(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    devices = iter([1, 0])  # the device disappears
    monkeypatch.setattr("server.engines.loading.cuda_devices", lambda: next(devices))
    with caplog.at_level(logging.WARNING):
        assert load_instances(folder, read_card(folder), ServerConfig()).device == "cpu"
    assert "there is a CUDA device, but the CPU is used: --device cuda" in caplog.text


@pytest.mark.parametrize(("device", "cores"), [("cpu", 3), ("cuda:0", 1)])
def test_a_device_other_than_the_cpu_counts_as_one_core(
    folder: Path, monkeypatch: pytest.MonkeyPatch, device: str, cores: int
) -> None:
    def load(folder: Path, card: Card, *_: Any, **__: Any) -> Engine:
        engine: Any = load_engine(folder, card, "onnx", "cpu", threads=3)
        engine.device = device
        return cast("Engine", engine)

    monkeypatch.setattr("server.engines.loading.load_engine", load)
    (instance,) = load_instances(folder, read_card(folder), ServerConfig(backend="torchscript")).groups.instances
    assert (instance.group, instance.cores) == (device, cores)


@pytest.mark.parametrize(
    ("error", "reason"),
    [(MemoryError(), "MemoryError"), (RuntimeError("out of memory\nat layer 1"), "RuntimeError: out of memory")],
)
@pytest.mark.parametrize("load", [load_instances, load_bf16_instances])
def test_any_error_of_a_runtime_at_load_becomes_a_one_line_bundle_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, load: Any, error: Exception, reason: str
) -> None:
    def fail(*_: Any, **__: Any) -> Engine:
        raise error

    monkeypatch.setattr("server.engines.loading.load_engine", fail)
    with pytest.raises(BundleError, match=rf"^loading failed \({reason}\); free some memory, or"):
        load(folder, read_card(folder), ServerConfig(device="cpu"))


def test_cuda_out_of_memory_gives_one_line_and_frees_loaded_engines(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    class Scarce:
        device, sizes = "cuda:0", (1,)

        def __init__(self, *_: Any, device_index: int, **__: Any) -> None:
            if device_index:
                raise RuntimeError("[ONNXRuntimeError] : CUDA out of memory\nat layer 1")
            made.append("made")

        def run(self, inputs: NDArray[Any], outputs: frozenset[str]) -> Outputs:
            return load_engine(folder, read_card(folder), "onnx", "cpu").run(inputs, outputs)

        def padded_rows(self, rows: int) -> int:
            return rows

        def close(self) -> None:
            made.append("closed")

    monkeypatch.setattr("server.engines.loading.cuda_devices", lambda: 2)
    monkeypatch.setattr("server.engines.loading.CudaOnnxEngine", Scarce)
    with pytest.raises(
        BundleError, match=r"^loading failed \(RuntimeError: \[ONNXRuntimeError\] : CUDA out of memory\); free"
    ):
        load_cuda_instances(folder, read_card(folder), ServerConfig())
    with pytest.raises(BundleError, match="CUDA out of memory"):
        load_instances(folder, read_card(folder), ServerConfig())
    assert made == ["made", "closed"] * 2


@pytest.mark.parametrize(
    ("devices", "batch_s", "row_s", "shares"),
    [
        (2, 0.2e-3, 1e-6, [("cuda:0", 4)]),  # as most on a GPU: 4 rows take hardly longer than one
        (2, 0.2e-3, 1e-3, [("cuda:0", 2), ("cuda:1", 2)]),
        (1, 0.2e-3, 1e-3, [("cuda:0", 4)]),
    ],
)
def test_a_request_is_split_among_cuda_devices_only_if_that_saves_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch, devices: int, batch_s: float, row_s: float, shares: list[Any]
) -> None:
    cost = Cost(monkeypatch)

    class Device:
        sizes = (1, 2, 4)

        def __init__(self, *_: Any, device_index: int, **__: Any) -> None:
            self.device = f"cuda:{device_index}"
            self.run = cost.instance(self.device, batch_s, row_s).run
            self.padded_rows, self.close = int, int

    monkeypatch.setattr("server.engines.loading.cuda_devices", lambda: devices)
    monkeypatch.setattr("server.engines.loading.CudaOnnxEngine", Device)
    monkeypatch.setattr("server.engines.loading.warm_up", lambda *_: None)
    loaded = load_cuda_instances(folder, read_card(folder), ServerConfig())
    assert loaded is not None
    taken = loaded.groups.take(4, lone=True)
    assert [(share.instance.group, share.rows) for share in taken] == shares
    assert not any(share.inline for share in taken)


def test_fp16_is_refused_on_the_cpu(folder: Path) -> None:
    with pytest.raises(StartupError, match="--precision fp16: needs CUDA"):
        load_instances(folder, read_card(folder), ServerConfig(precision="fp16", device="cpu"))


@pytest.mark.parametrize("engines", [None, 1, 3])
def test_every_instance_matches_the_card(folder: Path, engines: int | None) -> None:
    loaded = load_instances(folder, read_card(folder), ServerConfig(engines=engines, device="cpu"))
    latents = latents_from_seed(5, 7, 4)
    for instance in loaded.groups.instances:
        np.testing.assert_allclose(instance.run(latents, IMAGES)[OUTPUT_IMAGES], tiny_images(latents), atol=1e-5)
        assert instance.probe is not None
        instance.probe()
    assert loaded.groups.concurrency == (engines or loaded.groups.concurrency)


@pytest.mark.parametrize(("change", "inline"), [(None, True), (loop_forever_if_large, False)])
def test_the_event_loop_never_waits_for_a_graph_with_a_loop(tmp_path: Path, change: Any, inline: bool) -> None:
    folder = publish_tiny_bundle(tmp_path, change_graph=change)
    groups = load_instances(folder, read_card(folder), ServerConfig(device="cpu")).groups
    assert (groups.limits.inline_rows > 0) is inline
    assert any(instance.quick_rows for instance in groups.instances) is inline


class Cost:
    """Instances whose runs take a known time per batch and per row, on a clock that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("server.engines.loading.time.perf_counter", lambda: self.now)

    def instance(self, group: str, batch_s: float, row_s: float, max_rows: int = 64) -> Instance:
        def run(inputs: NDArray[Any], outputs: frozenset[str]) -> Outputs:
            self.now += batch_s + row_s * len(inputs)
            return {OUTPUT_PIXELS: inputs}

        return Instance(group, run, max_rows=max_rows)


@pytest.fixture
def card(folder: Path) -> Card:
    return read_card(folder)


def test_a_tiny_model_runs_on_the_event_loop_and_is_never_split(monkeypatch: pytest.MonkeyPatch, card: Card) -> None:
    cost = Cost(monkeypatch)
    limits = measure_limits(
        cost.instance("narrow", 10e-6, 2.7e-6), cost.instance("wide", 20e-6, 3e-6), card, instances=2
    )
    assert limits.inline_rows == 64
    assert limits.min_share_rows > 64
    assert limits.wide_rows == 0


def test_a_slow_model_is_split_row_by_row_and_a_lone_row_gets_all_cores(
    monkeypatch: pytest.MonkeyPatch, card: Card
) -> None:
    cost = Cost(monkeypatch)
    limits = measure_limits(
        cost.instance("narrow", 0.1e-3, 1.3e-3), cost.instance("wide", 0.1e-3, 0.7e-3), card, instances=2
    )
    assert (limits.inline_rows, limits.min_share_rows, limits.wide_rows) == (0, 1, 1)


def test_a_wide_instance_that_gains_nothing_is_not_used(monkeypatch: pytest.MonkeyPatch, card: Card) -> None:
    cost = Cost(monkeypatch)
    limits = measure_limits(cost.instance("narrow", 0, 1e-3), cost.instance("wide", 0, 0.95e-3), card, instances=2)
    assert limits.wide_rows == 0


def test_a_medium_model_runs_inline_only_for_small_batches(monkeypatch: pytest.MonkeyPatch, card: Card) -> None:
    cost = Cost(monkeypatch)
    limits = measure_limits(cost.instance("narrow", 0, 50e-6), None, card, instances=2)
    assert limits.inline_rows in (3, 4)
    assert limits.min_share_rows in (10, 11)
