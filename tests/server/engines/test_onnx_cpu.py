"""The session for images only: when it is built, what it computes, and what happens if it cannot be built."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import helper

from ganserve.bundle import ONNX_FILE, Card, example_rows, read_card
from server.engines import onnx_cpu as onnx_engine
from server.engines.base import GraphFile, warm_up
from server.engines.onnx_cpu import OnnxEngine
from server.engines.onnx_cut import cut_to
from tests.server.tiny_bundles import publish_tiny_bundle, publish_tiny_translator

IMAGES, PIXELS, BOTH = frozenset({"images"}), frozenset({"pixels"}), frozenset({"images", "pixels"})
WHOLE, CUT = ["images", "pixels"], ["images"]


class Session(onnxruntime.InferenceSession):  # type: ignore[misc]  # untyped
    """A session that records its runs: the outputs, by number of rows."""

    made: list[Session]

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.runs: list[tuple[int, list[str]]] = []
        self.computes = [output.name for output in self.get_outputs()]
        self.made.append(self)

    def run(self, names: list[str], feed: dict[str, NDArray[Any]], options: Any) -> Any:
        self.runs.append((len(next(iter(feed.values()))), names))
        return super().run(names, feed, options)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Session]:
    """The sessions that engines make."""
    monkeypatch.setattr(Session, "made", [], raising=False)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    return Session.made


def load(folder: Path, **changes: Any) -> tuple[OnnxEngine, Card]:
    card = msgspec.structs.replace(read_card(folder), **changes)
    path = folder / ONNX_FILE
    return OnnxEngine(GraphFile(path, path.read_bytes()), card, 1), card


def cuts(engine: OnnxEngine, card: Card) -> bool:
    """Requests images only; returns whether a separate session computes them."""
    engine.run(example_rows(card.input, 0, 2), IMAGES)
    return engine.images_only.result(timeout=30)


@pytest.mark.parametrize("publish", [publish_tiny_bundle, publish_tiny_translator])
def test_requests_for_images_only_skip_pixels_from_the_second_run_on(
    tmp_path: Path, made: list[Session], publish: Callable[[Path], Path]
) -> None:
    engine, card = load(publish(tmp_path))
    batch = example_rows(card.input, 3, 5)
    expected = engine.run(batch, BOTH)["images"]
    assert cuts(engine, card)
    whole, cut = made
    assert (whole.computes, cut.computes) == (WHOLE, CUT)
    whole.runs.clear()
    result = engine.run(batch, IMAGES)
    assert list(result) == CUT
    np.testing.assert_array_equal(result["images"], expected)
    assert cut.runs == [(1, CUT), (5, CUT)]  # the warm-up
    assert whole.runs == []


def test_no_second_session_is_built_for_requests_with_pixels(tmp_path: Path, made: list[Session]) -> None:
    engine, card = load(publish_tiny_bundle(tmp_path))
    warm_up(engine, card, 8)
    assert set(engine.run(example_rows(card.input, 0, 2), PIXELS)) == PIXELS
    assert not engine.images_only.running()
    assert not engine.images_only.done()
    assert len(made) == 1


def test_pixels_come_from_the_full_graph_after_the_images_session_is_built(tmp_path: Path, made: list[Session]) -> None:
    engine, card = load(publish_tiny_bundle(tmp_path))
    batch = example_rows(card.input, 3, 5)
    expected = engine.run(batch, BOTH)
    assert cuts(engine, card)
    for wanted in (PIXELS, BOTH):
        result = engine.run(batch, wanted)
        assert result.keys() == wanted
        for name in wanted:
            np.testing.assert_array_equal(result[name], expected[name])
    assert [rows for rows, _ in made[1].runs] == [1]


@pytest.fixture
def held_cut(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Blocks the cut until it is set."""
    event = threading.Event()

    def cut_later(model: bytes, outputs: frozenset[str]) -> bytes:
        assert event.wait(timeout=30)
        return cut_to(model, outputs)

    monkeypatch.setattr(onnx_engine, "cut_to", cut_later)
    return event


def test_the_full_graph_answers_until_the_images_session_is_built_once(
    tmp_path: Path, made: list[Session], held_cut: threading.Event
) -> None:
    engine, card = load(publish_tiny_bundle(tmp_path))
    batches = [example_rows(card.input, seed, 1 + seed) for seed in range(8)]
    expected = [engine.run(batch, BOTH)["images"] for batch in batches]
    barrier = threading.Barrier(4)

    def run_all(_: int) -> list[NDArray[Any]]:
        barrier.wait(timeout=30)
        return [engine.run(batch, IMAGES)["images"] for batch in batches]

    def check_all(pool: ThreadPoolExecutor) -> None:
        for results in pool.map(run_all, range(4)):
            for result, wanted in zip(results, expected, strict=True):
                np.testing.assert_array_equal(result, wanted)

    with ThreadPoolExecutor(4) as pool:
        check_all(pool)
        assert engine.images_only.running()
        held_cut.set()
        check_all(pool)
        assert engine.images_only.result(timeout=30)
        check_all(pool)
    assert [session.computes for session in made] == [WHOLE, CUT]


def test_an_engine_may_be_dropped_while_its_images_session_is_built(tmp_path: Path, held_cut: threading.Event) -> None:
    engine, card = load(publish_tiny_bundle(tmp_path))
    engine.run(example_rows(card.input, 0, 2), IMAGES)
    images_only = engine.images_only
    del engine
    held_cut.set()
    assert images_only.result(timeout=30)


def test_the_bytes_of_the_cut_graph_are_not_kept(tmp_path: Path, made: list[Session]) -> None:
    engine, card = load(publish_tiny_bundle(tmp_path))
    assert cuts(engine, card)
    assert not [name for session in made for name, value in vars(session).items() if isinstance(value, bytes)]


def add_noise(model: onnx.ModelProto) -> None:
    last = next(node for node in model.graph.node if node.output[0] == "images")
    last.output[0] = "quiet"
    noise = helper.make_node("RandomNormalLike", ["quiet"], ["noise"])
    model.graph.node.extend([noise, helper.make_node("Add", ["quiet", "noise"], ["images"])])


def condition_pixels(model: onnx.ModelProto) -> None:
    """Computes the pixels in an If node."""
    pixels = model.graph.node.pop()
    branch = helper.make_graph([pixels], "branch", [], [model.graph.output[1]])
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "always"))
    model.graph.node.append(helper.make_node("If", ["always"], ["pixels"], then_branch=branch, else_branch=branch))


def test_a_graph_that_cannot_be_cut_safely_runs_in_full_without_a_warning(
    tmp_path: Path, made: list[Session], caplog: pytest.LogCaptureFixture
) -> None:
    engine, card = load(publish_tiny_bundle(tmp_path, change_graph=condition_pixels))
    assert not cuts(engine, card)
    assert len(made) == 1
    assert not caplog.records


def test_a_large_file_is_not_read_again(tmp_path: Path, made: list[Session], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = publish_tiny_bundle(tmp_path)
    size = (folder / ONNX_FILE).stat().st_size
    monkeypatch.setattr(onnx_engine, "_MAX_CUT_BYTES", size - 1)
    assert not cuts(*load(folder))
    monkeypatch.setattr(onnx_engine, "_MAX_CUT_BYTES", size)
    assert cuts(*load(folder))
    assert [session.computes for session in made] == [WHOLE, WHOLE, CUT]


def check_failed(engine: OnnxEngine, card: Card, caplog: pytest.LogCaptureFixture, reason: str) -> None:
    """Checks that the full graph still answers, and that one line of the log says why."""
    with caplog.at_level(logging.INFO):
        assert not cuts(engine, card)
        assert not cuts(engine, card)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert reason in record.getMessage()
    assert "\n" not in record.getMessage()
    images = engine.run(example_rows(card.input, 0, 3), IMAGES)["images"]
    assert images.shape == (3, *card_shape(card))


def card_shape(card: Card) -> tuple[int, int, int]:
    return card.channels, card.height, card.width


def test_a_file_that_changed_after_loading_is_not_used(
    tmp_path: Path, made: list[Session], caplog: pytest.LogCaptureFixture
) -> None:
    folder = publish_tiny_bundle(tmp_path / "a")
    other = publish_tiny_bundle(tmp_path / "b", seed=1)
    engine, card = load(folder)
    (folder / ONNX_FILE).write_bytes((other / ONNX_FILE).read_bytes())
    check_failed(engine, card, caplog, "its sha256 differs from the card's")
    assert len(made) == 1


def test_a_file_deleted_after_loading_does_no_harm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine, card = load(publish_tiny_bundle(tmp_path))
    (tmp_path / "tiny" / "1" / ONNX_FILE).unlink()
    check_failed(engine, card, caplog, "No such file")


def test_a_cut_graph_with_different_images_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine, card = load(publish_tiny_bundle(tmp_path, change_graph=add_noise))
    check_failed(engine, card, caplog, "without pixels, images differ")


def test_a_cut_graph_that_the_runtime_refuses_does_no_harm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, card = load(publish_tiny_bundle(tmp_path))
    monkeypatch.setattr(onnx_engine, "cut_to", lambda model, outputs: b"junk")
    check_failed(engine, card, caplog, "INVALID_PROTOBUF")


def test_a_failure_to_start_a_thread_does_no_harm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    engine, card = load(publish_tiny_bundle(tmp_path))
    monkeypatch.setattr(threading.Thread, "start", fail)
    check_failed(engine, card, caplog, "can't start new thread")
