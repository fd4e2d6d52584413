"""Versions that are loaded, replaced and unloaded under load."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ganserve.bundle import OUTPUT_PIXELS, TRITON_CONFIG_FILE, version_folder
from server.app import Server
from server.config import ServerConfig
from server.core import Core
from server.errors import NotLoaded, NotServed, Unavailable
from server.models import lifecycle as models
from server.models import repository as repository_files
from server.models import serving
from server.models.lifecycle import IndexEntry
from server.request import InFlightRequest
from server.scheduling.batcher import Batcher
from server.scheduling.instances import Instance, InstanceGroups
from tests.server.scheduling.held_run import settle, until
from tests.server.tiny_bundles import publish_tiny_bundle, tiny_pixels

PIXELS = frozenset({OUTPUT_PIXELS})
LATENTS = np.random.default_rng(5).standard_normal((3, 4), dtype=np.float32)
Start = Callable[..., Any]


def fail(*_: Any) -> Any:
    raise RuntimeError("no device any more")


async def pixels_of(server: Server, name: str = "tiny") -> NDArray[Any]:
    return (await server.core.catalog[name].batcher.submit(LATENTS, PIXELS))[OUTPUT_PIXELS]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_REBUILD_PAUSES_S", (0.0, 0.01))


@pytest.fixture
async def start_core(config: ServerConfig) -> AsyncIterator[Start]:
    """Starts cores with some models only; closes them at the end."""
    cores: list[Core] = []

    async def start_one(only: dict[str, int | None]) -> Core:
        cores.append(Core(config))
        await cores[-1].start(only)
        return cores[-1]

    yield start_one
    for core in cores:
        await core.close()


def break_engine(batcher: Batcher) -> None:
    batcher.rebuild(InstanceGroups([Instance("narrow", fail, max_rows=4, probe=fail)]))


async def test_a_newer_version_replaces_the_old_one(server: Server, repository: Path) -> None:
    publish_tiny_bundle(repository, version=2, seed=7)
    await server.core.models.load("tiny")
    assert str(server.core.catalog["tiny"]) == "tiny:2"
    np.testing.assert_array_equal(await pixels_of(server), tiny_pixels(LATENTS, seed=7))


async def test_requests_in_flight_are_answered_by_the_old_version(server: Server, repository: Path) -> None:
    old = server.core.catalog["tiny"]
    old.enter()  # like one whose request is still being read
    publish_tiny_bundle(repository, version=2, seed=7)
    with old.batcher.held():
        waiting = asyncio.create_task(old.batcher.submit(LATENTS, PIXELS))
        await until(lambda: old.batcher.queued_rows == 3)
        await server.core.models.load("tiny")
    np.testing.assert_array_equal((await waiting)[OUTPUT_PIXELS], tiny_pixels(LATENTS))
    late = await old.batcher.submit(LATENTS, PIXELS)
    np.testing.assert_array_equal(late[OUTPUT_PIXELS], tiny_pixels(LATENTS))
    old.leave()


async def test_a_broken_version_leaves_a_working_one_in_service(server: Server, repository: Path) -> None:
    publish_tiny_bundle(repository, version=2, seed=7)
    (version_folder(repository, "tiny", 2) / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(
        NotLoaded, match=r"^'tiny': version 2 was not loaded: tiny/2/model.onnx: its sha256 differs.*; version 1 is"
    ):
        await server.core.models.load("tiny")
    assert str(server.core.catalog["tiny"]) == "tiny:1"
    np.testing.assert_array_equal(await pixels_of(server), tiny_pixels(LATENTS))


async def test_the_loaded_version_is_kept_if_no_other_works(server: Server, repository: Path) -> None:
    (version_folder(repository, "tiny", 1) / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(NotLoaded, match=r"version 1 was not loaded: .* sha256 differs .*; version 1 is served"):
        await server.core.models.load("tiny")
    np.testing.assert_array_equal(await pixels_of(server), tiny_pixels(LATENTS))


@pytest.mark.parametrize("name", ["other", "", "../tiny"])
async def test_an_unknown_model_cannot_be_loaded_or_unloaded(server: Server, name: str) -> None:
    with pytest.raises(NotServed):
        await server.core.models.load(name)
    with pytest.raises(NotServed):
        await server.core.models.unload(name)


async def test_unloading_waits_for_requests_in_flight(server: Server) -> None:
    batcher = server.core.catalog["tiny"].batcher
    model = server.core.catalog["tiny"]
    model.enter()
    with batcher.held():
        waiting = asyncio.create_task(batcher.submit(LATENTS, PIXELS))
        unloading = asyncio.create_task(server.core.models.unload("tiny"))
        await until(lambda: "tiny" not in server.core.catalog)
        assert not unloading.done()
    np.testing.assert_array_equal((await waiting)[OUTPUT_PIXELS], tiny_pixels(LATENTS))
    assert not unloading.done()
    model.leave()
    await unloading
    assert server.core.models.open_batchers == 0
    await server.core.models.load("tiny")
    np.testing.assert_array_equal(await pixels_of(server), tiny_pixels(LATENTS))


async def test_the_index_lists_every_version_and_its_state(server: Server, repository: Path) -> None:
    publish_tiny_bundle(repository, version=2)
    publish_tiny_bundle(repository, "other")
    assert server.core.models.index() == [
        IndexEntry("other", 1, "UNAVAILABLE", "not loaded"),
        IndexEntry("tiny", 1, "READY", "", is_default=True),
        IndexEntry("tiny", 2, "UNAVAILABLE", "not loaded"),
    ]


async def test_rows_waiting_for_a_replaced_version_fail(server: Server, repository: Path, tmp_path: Path) -> None:
    batcher = server.core.catalog["tiny"].batcher
    version_folder(repository, "tiny", 1).rename(tmp_path / "away")  # so that it cannot be rebuilt
    break_engine(batcher)
    with batcher.held():
        waiting = [asyncio.create_task(batcher.submit(LATENTS, PIXELS)) for _ in range(3)]
        await until(lambda: batcher.queued_rows == 9)
    publish_tiny_bundle(repository, version=2, seed=7)
    await server.core.models.load("tiny")
    outcomes = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 20)
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
    np.testing.assert_array_equal(await pixels_of(server), tiny_pixels(LATENTS, seed=7))


async def test_a_load_continues_after_its_caller_gives_up(
    server: Server, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading, go, load, began = asyncio.Event(), threading.Event(), repository_files.load_version, []
    loop = asyncio.get_running_loop()

    def load_slowly(*args: Any) -> Any:
        began.append(args)
        loop.call_soon_threadsafe(loading.set)
        assert go.wait(20)
        return load(*args)

    monkeypatch.setattr(models, "load_version", load_slowly)
    publish_tiny_bundle(repository, version=2, seed=7)
    impatient = asyncio.create_task(server.core.models.load("tiny"))
    await loading.wait()
    impatient.cancel()
    again = asyncio.create_task(server.core.models.load("tiny"))
    await settle()
    assert len(began) == 1
    go.set()
    await again
    assert str(server.core.catalog["tiny"]) == "tiny:2"


def write_config(repository: Path, text: str) -> None:
    """Replaces the settings of "tiny", as an operator does."""
    (repository / "tiny" / TRITON_CONFIG_FILE).write_text(text)


def versions_of(server: Server) -> list[int]:
    return [model.card.version for model in server.core.catalog.versions("tiny")]


def spoil(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"no graph")


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        ("", [4]),
        ("version_policy { latest { num_versions: 2 } }", [2, 4]),
        ("version_policy { specific { versions: [1, 2] } }", [1, 2]),
        ("version_policy { all { } }", [1, 2, 4]),
        ("version_policy {", [4]),  # invalid
    ],
)
async def test_the_version_policy_decides_which_versions_are_served_and_broken_ones_are_skipped(
    start_server: Start, repository: Path, policy: str, served: list[int]
) -> None:
    for version in (2, 3, 4):
        publish_tiny_bundle(repository, version=version, seed=version)
    spoil(version_folder(repository, "tiny", 3))
    write_config(repository, policy)
    server = await start_server()
    assert versions_of(server) == served
    for version in served[1:]:
        model = server.core.catalog.find("tiny", version, InFlightRequest("ModelInfer", 0.0))
        answer = await model.batcher.submit(LATENTS, PIXELS)
        np.testing.assert_array_equal(answer[OUTPUT_PIXELS], tiny_pixels(LATENTS, seed=version))
        model.leave()


async def test_a_date_is_a_version(start_server: Start, repository: Path) -> None:
    publish_tiny_bundle(repository, version=20260131)
    assert versions_of(await start_server()) == [20260131]


async def test_an_invalid_config_is_logged_and_the_newest_version_served(
    start_server: Start, repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_config(repository, "version_policy {")
    server = await start_server()
    await server.core.models.load("tiny")
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith("tiny: its newest version is served, because ")
    assert versions_of(server) == [1]


async def test_a_config_that_becomes_invalid_changes_nothing(
    start_server: Start, repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish_tiny_bundle(repository, version=2)
    write_config(repository, "version_policy { all {} }")
    server = await start_server()
    write_config(repository, "version_policy {")
    await server.core.models.load("tiny")
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith("tiny: its settings stay, because ")
    assert versions_of(server) == [1, 2]


async def test_a_load_follows_a_changed_policy_and_labels(server: Server, repository: Path) -> None:
    publish_tiny_bundle(repository, version=2)
    label = 'parameters { key: "version_label.stable" value { string_value: "1" } }'
    write_config(repository, "version_policy { all {} } " + label)
    await server.core.models.load("tiny")
    assert server.core.models.index("tiny") == [
        IndexEntry("tiny", 1, "READY", "", ("stable",)),
        IndexEntry("tiny", 2, "READY", "", is_default=True),
    ]
    write_config(repository, "")
    await server.core.models.load("tiny")
    assert versions_of(server) == [2]


async def test_a_policy_that_names_a_missing_version_is_an_error_of_the_load(server: Server, repository: Path) -> None:
    write_config(repository, "version_policy { specific { versions: [1, 9] } }")
    with pytest.raises(NotLoaded, match="version 9 was not loaded: it is not in the repository; version 1 is served"):
        await server.core.models.load("tiny")


async def test_all_served_versions_are_named_when_a_load_fails(server: Server, repository: Path) -> None:
    publish_tiny_bundle(repository, version=2)
    write_config(repository, "version_policy { specific { versions: [1, 2, 9] } }")
    with pytest.raises(NotLoaded, match=r"it is not in the repository; versions 1, 2 are served$"):
        await server.core.models.load("tiny")


async def test_the_reason_of_a_failed_version_is_kept_until_it_loads(server: Server, repository: Path) -> None:
    spoil(publish_tiny_bundle(repository, version=2))
    with pytest.raises(NotLoaded):
        await server.core.models.load("tiny")
    old, new = server.core.models.index()
    assert (old.state, old.reason, old.is_default) == ("READY", "", True)
    assert (new.state, new.is_default) == ("UNAVAILABLE", False)
    assert new.reason.startswith("tiny/2/model.onnx: its sha256 differs")
    assert str(repository) not in new.reason
    assert server.core.models.failed_versions() == [("tiny", "2")]
    assert server.core.models.load_counts == {"ok": 1, "failed": 1}
    shutil.rmtree(version_folder(repository, "tiny", 2))
    publish_tiny_bundle(repository, version=2)
    await server.core.models.load("tiny")
    assert [entry.reason for entry in server.core.models.index()] == ["not loaded", ""]
    assert server.core.models.failed_versions() == []
    assert server.core.models.load_counts == {"ok": 2, "failed": 1}


async def test_any_error_of_one_version_is_its_own(
    server: Server, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_tiny_bundle(repository, version=2)
    monkeypatch.setattr(repository_files, "contract_of", fail)
    with pytest.raises(
        NotLoaded, match=r"version 2 was not loaded: loading failed \(RuntimeError: no device any more\);.*version 1 is"
    ):
        await server.core.models.load("tiny")


async def test_loading_again_without_a_change_loads_nothing(server: Server) -> None:
    before = server.core.catalog["tiny"]
    await server.core.models.load("tiny")
    assert server.core.catalog["tiny"] is before
    assert server.core.models.load_counts["ok"] == 1


async def test_a_rollback_serves_the_previous_version_until_another_is_chosen(server: Server, repository: Path) -> None:
    for version in (2, 3):
        publish_tiny_bundle(repository, version=version, seed=version)
    spoil(version_folder(repository, "tiny", 2))
    with contextlib.suppress(NotLoaded):
        await server.core.models.load("tiny")
    assert versions_of(server) == [3]
    await server.core.models.roll_back("tiny")
    assert versions_of(server) == [1]  # 2 does not work
    np.testing.assert_array_equal(await pixels_of(server), tiny_pixels(LATENTS))
    publish_tiny_bundle(repository, version=4)
    await server.core.models.load("tiny")
    assert versions_of(server) == [1]
    assert [entry.version for entry in server.core.models.index() if entry.is_chosen] == [1]
    assert server.core.models.index()[-1].reason == "newer than the chosen version"
    with pytest.raises(NotLoaded, match="tiny:1 has no older version"):
        await server.core.models.roll_back("tiny")
    await server.core.models.load("tiny", newest=True)
    assert versions_of(server) == [4]
    assert not any(entry.is_chosen for entry in server.core.models.index())


async def test_a_rollback_that_finds_no_working_version_changes_nothing(server: Server, repository: Path) -> None:
    publish_tiny_bundle(repository, version=2)
    await server.core.models.load("tiny")
    spoil(version_folder(repository, "tiny", 1))
    with pytest.raises(NotLoaded, match=r"version 1 was not loaded: .*; version 2 is served"):
        await server.core.models.roll_back("tiny")
    assert versions_of(server) == [2]
    publish_tiny_bundle(repository, version=3)
    await server.core.models.load("tiny")
    assert versions_of(server) == [3]


async def test_with_all_versions_served_a_rollback_changes_only_the_default(server: Server, repository: Path) -> None:
    publish_tiny_bundle(repository, version=2)
    write_config(repository, "version_policy { all {} }")
    await server.core.models.load("tiny")
    await server.core.models.roll_back("tiny")
    assert versions_of(server) == [1, 2]
    assert str(server.core.catalog["tiny"]) == "tiny:1"
    assert server.core.models.load_counts["ok"] == 2


async def test_one_version_can_be_loaded_by_number_and_unloaded(server: Server, repository: Path) -> None:
    for version in (2, 3):
        publish_tiny_bundle(repository, version=version)
    await server.core.models.load("tiny", 2)
    assert versions_of(server) == [2]
    with pytest.raises(NotServed, match="version 9 of 'tiny' is not in the repository: use one of 1, 2, 3"):
        await server.core.models.load("tiny", 9)
    with pytest.raises(NotServed, match="version 3 of 'tiny' is not served"):
        await server.core.models.unload("tiny", 3)
    await server.core.models.unload("tiny", 2)
    assert versions_of(server) == []
    assert [entry.reason for entry in server.core.models.index()] == ["not loaded", "unloaded", "not loaded"]
    await server.core.models.load("tiny")
    assert versions_of(server) == [3]


async def test_an_unloaded_version_leaves_the_others_and_its_place_empty(server: Server, repository: Path) -> None:
    for version in (2, 3):
        publish_tiny_bundle(repository, version=version)
    write_config(repository, "version_policy { latest { num_versions: 2 } }")
    await server.core.models.load("tiny")
    await server.core.models.unload("tiny", 3)
    assert versions_of(server) == [2]
    await server.core.models.follow("tiny")
    assert versions_of(server) == [2]


async def test_models_are_unloaded_while_another_one_loads(
    start_server: Start, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_tiny_bundle(repository, "other")
    server = await start_server()
    began, go, load = asyncio.Event(), threading.Event(), repository_files.load_version
    loop = asyncio.get_running_loop()

    def load_slowly(*args: Any) -> Any:
        loop.call_soon_threadsafe(began.set)
        assert go.wait(20)
        return load(*args)

    monkeypatch.setattr(models, "load_version", load_slowly)
    publish_tiny_bundle(repository, version=2)
    loading = asyncio.create_task(server.core.models.load("tiny"))
    await began.wait()
    assert next(entry.state for entry in server.core.models.index("tiny") if entry.version == 2) == "LOADING"
    await asyncio.wait_for(server.core.models.unload("other"), 20)
    assert "other" not in server.core.catalog
    go.set()
    await loading
    assert versions_of(server) == [2]


async def test_following_tries_a_broken_version_again_only_when_its_files_change(
    server: Server, repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = publish_tiny_bundle(repository, version=2)
    graph = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(graph[:100])
    for _ in range(3):
        await server.core.models.follow("tiny")
    assert versions_of(server) == [1]
    assert server.core.models.load_counts == {"ok": 1, "failed": 1}
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1
    (folder / "model.onnx").write_bytes(graph)
    await server.core.models.follow("tiny")
    assert versions_of(server) == [2]


async def test_following_unloads_what_left_the_folder(start_server: Start, repository: Path, tmp_path: Path) -> None:
    publish_tiny_bundle(repository, version=2)
    server = await start_server()
    version_folder(repository, "tiny", 2).rename(tmp_path / "away")
    await server.core.models.follow("tiny")
    assert versions_of(server) == [1]
    version_folder(repository, "tiny", 1).rename(tmp_path / "away1")
    await server.core.models.follow("tiny")
    assert versions_of(server) == []
    (tmp_path / "away1").rename(version_folder(repository, "tiny", 1))
    await server.core.models.follow("tiny")
    assert versions_of(server) == [1]


async def test_the_last_working_version_stays_when_only_broken_ones_are_left(
    start_server: Start, repository: Path, tmp_path: Path
) -> None:
    server = await start_server()
    spoil(publish_tiny_bundle(repository, version=2))
    version_folder(repository, "tiny", 1).rename(tmp_path / "away")
    await server.core.models.follow("tiny")
    assert versions_of(server) == [1]


async def test_following_leaves_an_unloaded_model_alone(server: Server, repository: Path) -> None:
    await server.core.models.unload("tiny")
    publish_tiny_bundle(repository, version=2)
    await server.core.models.follow("tiny")
    assert versions_of(server) == []
    await server.core.models.load("tiny")
    assert versions_of(server) == [2]


async def test_a_chosen_version_that_is_removed_is_no_longer_chosen(
    server: Server, repository: Path, tmp_path: Path
) -> None:
    publish_tiny_bundle(repository, version=2)
    await server.core.models.load("tiny", 1)
    version_folder(repository, "tiny", 1).rename(tmp_path / "away")
    await server.core.models.follow("tiny")
    assert versions_of(server) == [2]


async def test_some_models_are_loaded_instead_of_all(start_core: Start, repository: Path) -> None:
    publish_tiny_bundle(repository, "other")
    publish_tiny_bundle(repository, "other", version=2)
    core = await start_core({"other": None})
    assert [str(model) for model in core.catalog.versions()] == ["other:2"]
    core = await start_core({"other": 1})
    assert [str(model) for model in core.catalog.versions()] == ["other:1"]
    assert [entry.is_chosen for entry in core.models.index("other")] == [True, False]


@pytest.mark.parametrize(
    ("only", "error", "text"),
    [
        ({"nope": None}, NotServed, "no model 'nope' is in .*: use one of tiny"),
        ({"tiny": 7}, NotServed, "version 7 of 'tiny' is not in the repository"),
        ({"tiny": 2}, NotLoaded, "version 2 was not loaded"),
    ],
)
async def test_wanted_models_that_cannot_be_loaded_are_an_error(
    start_core: Start, repository: Path, only: dict[str, int | None], error: type[Exception], text: str
) -> None:
    spoil(publish_tiny_bundle(repository, version=2))
    with pytest.raises(error, match=text):
        await start_core(only)
    core = await start_core({"tiny": None})
    assert [str(model) for model in core.catalog.versions()] == ["tiny:1"]
