"""Repositories that are damaged, hostile or unlucky: only the model with the fault is not served."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ganserve.bundle import CARD_FILE, ONNX_FILE, TRITON_CONFIG_FILE, read_card
from ganserve.latents import latents_from_seed
from server import daemon_threads
from server.config import ServerConfig
from server.engines import loading, run_limit
from server.errors import InternalError, StartupError, Unavailable
from server.gate import Gate
from server.models.catalog import Catalog
from server.models.lifecycle import Models
from server.scheduling.instances import InstanceGroups
from tests.server.endless_graphs import ask_for_memory, loop_forever, loop_forever_if_large
from tests.server.scheduling.held_run import until
from tests.server.tiny_bundles import publish_tiny_bundle, tiny_graph, tiny_images

WAIT_S = 30.0
DEEP = "[" * 100_000 + "]" * 100_000
Spoil = Callable[[Path], object]  # takes the folder of a good version


async def served_by(config: ServerConfig) -> list[str]:
    """The names of the models that a server of this repository serves."""
    catalog = Catalog()
    models = Models(catalog, config, Gate())
    try:
        await models.load_all()
        return list(catalog)
    finally:
        await models.close()


def replace_by(name: str, make: Callable[[Path], object]) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return spoil


def link_to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def link_to_nothing(path: Path) -> None:
    path.symlink_to("nothing")


def move_weights(folder: Path) -> None:
    model = tiny_graph()
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = weights.EXTERNAL
    entry = weights.external_data.add()
    entry.key, entry.value = "location", "../../../../../../etc/passwd"
    publish_tiny_bundle(folder.parents[1], folder.parent.name, 2, change_graph=lambda graph: graph.CopyFrom(model))
    (folder / CARD_FILE).unlink()


def make_large(path: Path) -> None:
    path.touch()
    os.truncate(path, 3 << 30)


def change_graph(change: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        publish_tiny_bundle(folder.parents[1], folder.parent.name, 2, change_graph=change)
        (folder / CARD_FILE).unlink()

    return spoil


SPECIAL_FILES: dict[str, Spoil] = {
    "fifo": os.mkfifo,
    "device": link_to_device,
    "folder": Path.mkdir,
    "link loop": link_to_itself,
    "dangling link": link_to_nothing,
    "large": make_large,
    "empty": Path.touch,
}
BROKEN: dict[str, Spoil] = {
    **{f"card.json {kind}": replace_by(CARD_FILE, make) for kind, make in SPECIAL_FILES.items()},
    **{f"model.onnx {kind}": replace_by(ONNX_FILE, make) for kind, make in SPECIAL_FILES.items()},
    "deep json": lambda folder: (folder / CARD_FILE).write_text('{"input": {"x": ' + DEEP + ', "type": "latents"}}'),
    "deep list": lambda folder: (folder / CARD_FILE).write_text(DEEP),
    "not utf-8": lambda folder: (folder / CARD_FILE).write_bytes(b'{"name": "\xff"}'),
    "huge number": lambda folder: (folder / CARD_FILE).write_text('{"version": ' + "9" * 10_000 + "}"),
    "half copied": lambda folder: os.truncate(folder / ONNX_FILE, 100),
    "weights elsewhere": move_weights,
    "endless": change_graph(loop_forever),
    "100 TiB of memory": change_graph(ask_for_memory),
}
HARMLESS: dict[str, Spoil] = {
    ".DS_Store": lambda folder: (folder / ".DS_Store").touch(),
    "a link": lambda folder: (folder.parent / "..data").symlink_to(folder),
    "README": lambda folder: (folder / "README.md").touch(),
    "Thumbs.db above": lambda folder: (folder.parent / "Thumbs.db").touch(),
    "a FIFO": lambda folder: os.mkfifo(folder / "fifo"),
    "an empty version": lambda folder: (folder.parent / "2").mkdir(),
    "version 01": lambda folder: (folder.parent / "01").mkdir(),
    "a large version": lambda folder: (folder.parent / "999999999999").mkdir(),
    "a very large version": lambda folder: (folder.parent / ("9" * 200)).mkdir(),
    "a version in a loop": lambda folder: (folder.parent / "2").symlink_to("2"),
    "junk in config.pbtxt": lambda folder: (folder.parent / TRITON_CONFIG_FILE).write_bytes(b"\xff{{{"),
}


@pytest.fixture
def bounded(config: ServerConfig, monkeypatch: pytest.MonkeyPatch) -> ServerConfig:
    """Ends endless runs soon."""
    monkeypatch.setattr(run_limit, "_TICK_S", 0.02)
    return replace(config, compute_timeout_s=0.2)


@pytest.mark.parametrize("kind", BROKEN)
async def test_a_broken_model_is_skipped_with_one_line_and_the_rest_is_served(
    bounded: ServerConfig, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    BROKEN[kind](publish_tiny_bundle(bounded.models, "broken"))
    assert await served_by(bounded) == ["tiny"]
    assert any("broken" in message and "not served" in message for message in caplog.messages)
    assert not any("\n" in message for message in caplog.messages)
    assert not any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize("kind", HARMLESS)
async def test_what_is_no_part_of_a_bundle_does_no_harm(config: ServerConfig, kind: str) -> None:
    HARMLESS[kind](publish_tiny_bundle(config.models, "other"))
    assert await served_by(config) == ["other", "tiny"]


async def test_a_repository_of_links_is_served(config: ServerConfig, tmp_path: Path) -> None:
    # As Kubernetes mounts a ConfigMap: every file is a link through a link to a folder.
    folder = config.models / "tiny" / "1"
    data = tmp_path / "data"
    folder.rename(data)
    folder.mkdir()
    (folder / "..data").symlink_to(data)
    for file in (CARD_FILE, ONNX_FILE):
        (folder / file).symlink_to(Path("..data", file))
    (tmp_path / "mounted").symlink_to(config.models)
    assert await served_by(replace(config, models=tmp_path / "mounted")) == ["tiny"]


async def test_a_model_folder_that_cannot_be_read_is_skipped(
    config: ServerConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    publish_tiny_bundle(config.models, "locked")
    list_folder = Path.iterdir

    def refuse(path: Path) -> Any:
        if path.name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return list_folder(path)

    monkeypatch.setattr(Path, "iterdir", refuse)  # root, who may run the tests, can read everything
    assert await served_by(config) == ["tiny"]
    assert any(
        message.startswith("locked: the model is not served: the folder of 'locked' cannot be read")
        for message in caplog.messages
    )


@pytest.mark.parametrize("kind", ["card.json fifo", "endless", "deep json"])
async def test_a_repository_without_a_working_model_is_a_startup_error(bounded: ServerConfig, kind: str) -> None:
    BROKEN[kind](bounded.models / "tiny" / "1")
    with pytest.raises(StartupError, match=r"^--models: no model in .* works"):
        await served_by(bounded)


@pytest.mark.parametrize("below", ["tiny", "tiny/1"])
async def test_a_folder_below_the_repository_gets_a_hint(config: ServerConfig, below: str) -> None:
    with pytest.raises(StartupError, match=rf"is a model, not .*: did you mean --models {config.models}\?"):
        await served_by(replace(config, models=config.models / below))


@pytest.fixture
def stalled(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Reading the card of "stalled" blocks until it is set, as on a network disk whose server is gone."""
    disk = threading.Event()

    def read(folder: Path) -> Any:
        if folder.parent.name == "stalled":
            assert disk.wait(WAIT_S)
        return read_card(folder)

    monkeypatch.setattr("server.models.repository.read_card", read)
    yield disk
    disk.set()


async def test_a_stalled_disk_delays_the_start_only_for_the_load_timeout(
    config: ServerConfig, stalled: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    publish_tiny_bundle(config.models, "stalled")
    before = daemon_threads.abandoned()
    assert await served_by(replace(config, load_timeout_s=0.05)) == ["tiny"]
    assert any("loading has not ended after 0.05 s; check its disk" in message for message in caplog.messages)
    assert daemon_threads.abandoned() == before + 1
    stalled.set()
    await until(lambda: daemon_threads.abandoned() == before)


async def test_engines_that_are_loaded_too_late_are_freed(
    config: ServerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_tiny_bundle(config.models, "late")
    load_engine, go_on, freed = loading.load_engine, threading.Event(), threading.Event()

    def load(folder: Path, *arguments: Any, **how: Any) -> Any:
        if folder.parent.name == "late":
            assert go_on.wait(WAIT_S)
        return load_engine(folder, *arguments, **how)

    monkeypatch.setattr(loading, "load_engine", load)
    close = InstanceGroups.close

    def free(groups: Any) -> None:
        close(groups)
        freed.set()

    monkeypatch.setattr(InstanceGroups, "close", free)
    catalog = Catalog()
    models = Models(catalog, replace(config, load_timeout_s=1.5), Gate())
    try:
        await models.load_all()
        assert list(catalog) == ["tiny"]
        assert not freed.is_set()
        go_on.set()
        await until(freed.is_set)
    finally:
        go_on.set()
        await models.close()


async def test_a_load_that_never_ends_holds_up_neither_requests_nor_the_stop(
    start_server: Callable[..., Any], stalled: threading.Event, config: ServerConfig
) -> None:
    server = await start_server(model_control="explicit")
    publish_tiny_bundle(config.models, "stalled")
    loading = asyncio.create_task(server.core.models.load("stalled"))
    await until(lambda: any(thread.name == "load stalled:1" for thread in threading.enumerate()))
    latents = latents_from_seed(1, 2, 4)
    images = (await server.core.catalog["tiny"].batcher.submit(latents, frozenset({"images"})))["images"]
    np.testing.assert_allclose(images, tiny_images(latents), atol=1e-5)
    assert await server.drain()
    with pytest.raises(Unavailable, match="the server is stopping"):
        await loading
    assert await server.close()
    assert daemon_threads.running()
    stalled.set()
    await until(lambda: not daemon_threads.running())


async def test_an_input_that_never_ends_holds_up_only_an_engine_and_not_for_long(
    bounded: ServerConfig, start_server: Callable[..., Any]
) -> None:
    publish_tiny_bundle(bounded.models, "loops", change_graph=loop_forever_if_large)
    server = await start_server(compute_timeout_s=bounded.compute_timeout_s)
    tiny, loops = server.core.catalog["tiny"].batcher, server.core.catalog["loops"].batcher
    endless = asyncio.create_task(loops.submit(np.full((1, 4), 1e6, np.float32), frozenset({"images"})))
    latents = latents_from_seed(1, 2, 4)
    images = (await tiny.submit(latents, frozenset({"images"})))["images"]
    np.testing.assert_allclose(images, tiny_images(latents), atol=1e-5)
    assert not endless.done()
    with pytest.raises(InternalError):
        await endless
    images = (await loops.submit(latents, frozenset({"images"})))["images"]
    np.testing.assert_allclose(images, tiny_images(latents), atol=1e-5)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
CARD_FIELDS = ["name", "version", "input", "height", "channels", "files", "parity", "variants", "value_min", "new"]
entry_names = st.sampled_from(
    [CARD_FILE, ONNX_FILE, TRITON_CONFIG_FILE, "1", "2", "1/card.json", "1/model.onnx", "2/card.json", ".x", "a b", "é"]
)
entry_kinds = st.sampled_from(["file", "folder", "fifo", "loop", "device", "gone"])


def make_entry(path: Path, kind: str) -> None:
    """Replaces whatever is at `path`, if its folder exists and it is not a folder itself."""
    if not path.parent.is_dir() or (path.is_dir() and not path.is_symlink()):
        return
    path.unlink(missing_ok=True)
    if kind == "file":
        path.write_bytes(b"\x00{")
    elif kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "device":
        path.symlink_to("/dev/zero")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.dictionaries(st.sampled_from(CARD_FIELDS), json_values, max_size=3),
    entries=st.lists(st.tuples(entry_names, entry_kinds), max_size=4),
)
@example(changes={"height": 1 << 20, "width": 1 << 20}, entries=[])
@example(changes={"input": {"type": "latents", "latent_dim": 1 << 20}}, entries=[])
async def test_whatever_a_repository_holds_the_good_model_is_served(
    config: ServerConfig, changes: dict[str, Any], entries: list[tuple[str, str]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder)
        publish_tiny_bundle(models)
        card = publish_tiny_bundle(models, "broken") / CARD_FILE
        card.write_bytes(msgspec.json.encode(msgspec.json.decode(card.read_bytes()) | changes))
        for name, kind in entries:
            make_entry(models / "broken" / name, kind)
        assert "tiny" in await served_by(replace(config, models=models))
