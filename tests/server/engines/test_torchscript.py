"""TorchScript engines and their threads, and the variants in reduced precision of both backends."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from ganserve.bundle import CARD_FILE, VARIANT_FILES, BundleError, Fidelity, example_rows, read_card
from ganserve.machine import usable_cores
from server.config import BACKENDS, PRECISIONS, Backend, Precision
from server.engines.base import GRAPH_FILES, Engine, warm_up
from server.engines.loading import load_engine
from server.errors import StartupError
from tests.server.tiny_bundles import publish_tiny_bundle

BOTH = frozenset({"images", "pixels"})
ALL = sorted(GRAPH_FILES)
VARIANTS = [(backend, precision) for backend, precision in ALL if precision != "fp32"]


def load(folder: Path, backend: Backend, precision: Precision, threads: int | None = None) -> Engine:
    card = read_card(folder)
    engine = load_engine(folder, card, backend, "cpu", precision=precision, threads=threads)
    warm_up(engine, card, 8)
    return engine


def run(engine: Engine, folder: Path, rows: int, seed: int = 5) -> dict[str, NDArray[Any]]:
    batch = example_rows(read_card(folder).input, seed, rows)
    batch.setflags(write=False)  # as those are that a request brings
    return engine.run(batch, BOTH)


@pytest.mark.parametrize(("backend", "precision"), VARIANTS)
def test_a_variant_gives_nearly_the_float32_images(exported: Path, backend: Backend, precision: Precision) -> None:
    exact, engine = load(exported, "onnx", "fp32"), load(exported, backend, precision)
    assert (engine.backend, engine.precision, engine.device) == (backend, precision, "cpu")
    differ = False
    for rows in (1, 2, 7, 64, 3):
        expected, result = run(exact, exported, rows), run(engine, exported, rows)
        for name, array in result.items():
            assert (array.dtype, array.shape) == (expected[name].dtype, expected[name].shape)
            assert array.flags.c_contiguous
            assert array.flags.aligned
        np.testing.assert_allclose(result["images"], expected["images"], atol=0.02)
        np.testing.assert_allclose(result["pixels"].astype(int), expected["pixels"].astype(int), atol=2)
        differ |= bool((result["images"] != expected["images"]).any())
    assert differ  # because another file ran


@pytest.mark.parametrize(("backend", "precision"), ALL)
def test_only_the_wanted_outputs_come_back(exported: Path, backend: Backend, precision: Precision) -> None:
    engine = load(exported, backend, precision)
    batch = example_rows(read_card(exported).input, 0, 2)
    assert set(engine.run(batch, frozenset({"pixels"}))) == {"pixels"}
    assert set(engine.run(batch, frozenset({"images"}))) == {"images"}


@pytest.mark.parametrize(
    ("backend", "precision", "threads"),
    [("onnx", "fp32", 1), ("onnx", "fp32", 2), ("torchscript", "fp32", 2), ("torchscript", "bf16", 1)],
)
def test_several_threads_may_run_one_engine_at_once(
    exported: Path, backend: Backend, precision: Precision, threads: int
) -> None:
    engine = load(exported, backend, precision, threads)
    assert engine.threads == threads
    sizes = [1, 5, 8, 2, 7, 3] * 4
    expected = [run(engine, exported, rows, seed)["pixels"] for seed, rows in enumerate(sizes)]
    barrier = threading.Barrier(4)

    def run_all(first: int) -> list[NDArray[Any]]:
        barrier.wait(timeout=30)
        order = [*range(first, len(sizes)), *range(first)]
        results = {seed: run(engine, exported, sizes[seed], seed)["pixels"] for seed in order}
        return [results[seed] for seed in range(len(sizes))]

    with ThreadPoolExecutor(4) as pool:
        for results in pool.map(run_all, (0, 5, 11, 17)):
            for result, wanted in zip(results, expected, strict=True):
                np.testing.assert_allclose(result.astype(int), wanted.astype(int), atol=1)


def test_pytorch_uses_the_threads_of_the_engine(exported: Path) -> None:
    import torch

    narrow, wide = load(exported, "torchscript", "bf16", 1), load(exported, "torchscript", "bf16", 3)

    def threads_after(*engines: Engine) -> list[int]:
        counts = []
        for engine in engines:
            run(engine, exported, 1)
            counts.append(torch.get_num_threads())
        return counts

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(threads_after, narrow, wide, narrow).result() == [1, 3, 1]
        with ThreadPoolExecutor(1) as other:  # a new thread inherits what another thread set last
            assert other.submit(threads_after, wide, narrow).result() == [3, 1]
        assert pool.submit(torch.get_num_threads).result() == 1


def test_no_code_is_compiled_for_a_batch_size(exported: Path) -> None:
    import torch

    jit: Any = torch.jit
    engine = load_engine(exported, read_card(exported), "torchscript", "cpu", precision="bf16")
    graphs = set()
    for rows in (1, 2, 3, 9, 2):  # the first call would be profiled, the second compiled
        run(engine, exported, rows)
        graphs.add(str(jit.last_executed_optimized_graph()))
    (graph,) = graphs
    assert "prim::profile" not in graph


@pytest.mark.parametrize("backend", BACKENDS)
def test_threads_are_all_cores_by_default(exported: Path, backend: Backend) -> None:
    engine = load_engine(exported, read_card(exported), backend, "cpu")
    assert (engine.threads, engine.precision) == (usable_cores(), "fp32")


@pytest.mark.parametrize(("backend", "precision"), VARIANTS)
def test_a_bundle_without_the_variant_says_how_to_export_it(
    tmp_path: Path, backend: Backend, precision: Precision
) -> None:
    folder = publish_tiny_bundle(tmp_path)
    with pytest.raises(BundleError, match=f"has no {precision} variant; export it again with --{precision}$"):
        load(folder, backend, precision)


@pytest.mark.parametrize(("backend", "precision"), VARIANTS)
def test_a_rejected_variant_is_not_served_and_its_fidelity_is_in_the_error(
    exported: Path, tmp_path: Path, backend: Backend, precision: Precision
) -> None:
    folder = tmp_path / "tiny" / "1"
    folder.mkdir(parents=True)
    for path in exported.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    card = read_card(exported)
    fidelity = Fidelity(256, 0.9912, 47.3, 6, published=False)
    refused = msgspec.structs.replace(card, variants={**card.variants, precision: fidelity})
    (folder / CARD_FILE).write_bytes(msgspec.json.encode(refused))
    with pytest.raises(BundleError, match=r"rejected at export \(99\.120% .*, PSNR 47\.3 dB, .* 256 images\)"):
        load(folder, backend, precision)
    load(folder, "onnx", "fp32")


@pytest.mark.parametrize(("backend", "precision"), VARIANTS)
def test_a_variant_that_was_tampered_with_is_refused_and_the_others_are_served(
    exported: Path, tmp_path: Path, backend: Backend, precision: Precision
) -> None:
    folder = tmp_path / "tiny" / "1"
    folder.mkdir(parents=True)
    for path in exported.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    with (folder / VARIANT_FILES[precision]).open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match="sha256"):
        load(folder, backend, precision)
    load(folder, "onnx", "fp32")


@pytest.mark.parametrize(
    ("backend", "precision"), [(b, p) for b in BACKENDS for p in PRECISIONS if (b, p) not in GRAPH_FILES]
)
def test_an_unsupported_precision_names_the_backend_that_supports_it(
    tmp_path: Path, backend: Backend, precision: Precision
) -> None:
    folder = publish_tiny_bundle(tmp_path)
    with pytest.raises(
        StartupError, match=rf"^--precision {precision}: not supported by --backend {backend}; use --backend"
    ):
        load(folder, backend, precision)
