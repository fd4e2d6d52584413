from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ganserve.bundle import list_versions, version_folder
from server.app import Server
from server.models.background_tasks import BackgroundTasks
from server.models.fingerprints import ModelFiles, scan_model
from server.models.poller import Poller
from tests.server.scheduling.held_run import settle
from tests.server.tiny_bundles import publish_tiny_bundle


class FakeModels:
    """Records which models are brought up to date."""

    def __init__(self, repository: Path) -> None:
        self.repository = repository
        self.followed: list[str] = []
        self.files: dict[str, ModelFiles] = {}

    async def follow(self, name: str) -> None:
        self.followed.append(name)
        self.files[name] = scan_model(self.repository, name)

    def applied(self) -> Mapping[str, ModelFiles]:
        return self.files


def away(repository: Path, *, leave_folder: bool) -> None:
    """Takes the repository away, as a file system that is no longer mounted."""
    repository.rename(repository.with_name("away"))
    if leave_folder:  # the mount point
        repository.mkdir()


def back(repository: Path) -> None:
    """Undoes `away`."""
    shutil.rmtree(repository, ignore_errors=True)
    repository.with_name("away").rename(repository)


async def until(condition: Callable[[], bool]) -> None:
    """Returns once the condition holds; a server that polls needs real time for it."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - no event tells it
            await asyncio.sleep(0.005)


@pytest.fixture
def models(repository: Path) -> FakeModels:
    return FakeModels(repository)


@pytest.fixture
async def look(models: FakeModels) -> AsyncIterator[Callable[[], Awaitable[list[str]]]]:
    """Looks at the repository once; returns which models were then brought up to date."""
    tasks = BackgroundTasks()
    poller = Poller(models.follow, models.applied, models.repository, 1.0, tasks)

    async def look_once() -> list[str]:
        models.followed.clear()
        await poller.poll()
        await settle()
        return list(models.followed)

    yield look_once
    await tasks.cancel()


async def test_a_change_counts_once_two_looks_see_the_same_files(repository: Path, look: Any) -> None:
    assert [await look() for _ in range(3)] == [[], ["tiny"], []]
    folder = publish_tiny_bundle(repository, version=2)
    assert await look() == []
    with (folder / "model.onnx").open("ab") as file:  # still being copied
        file.write(b"x")
    assert await look() == []
    assert await look() == ["tiny"]
    assert await look() == []


@pytest.mark.parametrize("what", ["version", "model", "config"])
async def test_new_changed_and_removed_files_are_followed(repository: Path, look: Any, what: str) -> None:
    publish_tiny_bundle(repository, "other")
    assert [await look(), await look()] == [[], ["other", "tiny"]]
    if what == "config":
        (repository / "tiny" / "config.pbtxt").write_text("version_policy { all {} }")
    else:
        shutil.rmtree(repository / "tiny" if what == "model" else version_folder(repository, "tiny", 1))
    assert [await look() for _ in range(3)] == [[], ["tiny"], []]


@pytest.mark.parametrize("leave_folder", [True, False])
async def test_a_repository_that_is_gone_or_empty_changes_nothing(
    repository: Path, look: Any, leave_folder: bool, caplog: pytest.LogCaptureFixture
) -> None:
    await look()
    await look()
    away(repository, leave_folder=leave_folder)
    assert [await look() for _ in range(3)] == [[], [], []]
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert line.startswith(f"the model repository {repository} ")
    assert line.endswith("; what is served stays as it is")
    back(repository)
    publish_tiny_bundle(repository, version=2)
    assert [await look() for _ in range(2)] == [[], ["tiny"]]


async def test_a_folder_that_cannot_be_read_does_not_hide_the_others(
    repository: Path, look: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    publish_tiny_bundle(repository, "locked")
    await look()
    await look()

    def list_some(path: Path, name: str) -> list[int]:
        if name == "locked":
            raise PermissionError(13, "Permission denied")
        return list_versions(path, name)

    monkeypatch.setattr("server.models.fingerprints.list_versions", list_some)
    publish_tiny_bundle(repository, version=2)
    assert [await look() for _ in range(3)] == [[], ["tiny"], []]
    assert caplog.messages == ["locked: its folder cannot be read (Permission denied); what is served stays as it is"]


async def test_files_that_are_no_models_are_ignored(repository: Path, look: Any) -> None:
    (repository / ".DS_Store").write_text("x")
    (repository / "README.md").write_text("x")
    (repository / "empty").mkdir()
    assert [await look() for _ in range(3)] == [[], ["tiny"], []]


async def test_a_polling_server_swaps_versions_in_and_out(
    start_server: Callable[..., Awaitable[Server]], repository: Path
) -> None:
    server = await start_server(model_control="poll", poll_s=0.01)
    publish_tiny_bundle(repository, version=2, seed=7)
    await until(lambda: str(server.core.catalog["tiny"]) == "tiny:2")
    broken = publish_tiny_bundle(repository, version=3)
    (broken / "model.onnx").write_bytes(b"no graph")
    await until(lambda: server.core.models.failed_versions() == [("tiny", "3")])
    assert [str(model) for model in server.core.catalog.versions()] == ["tiny:2"]
    publish_tiny_bundle(repository, "new")
    await until(lambda: "new" in server.core.catalog)
    shutil.rmtree(broken)
    shutil.rmtree(version_folder(repository, "tiny", 2))
    await until(lambda: str(server.core.catalog["tiny"]) == "tiny:1")
    shutil.rmtree(repository / "tiny")
    await until(lambda: "tiny" not in server.core.catalog)
    assert server.core.models.failed_versions() == []
    await asyncio.wait_for(server.close(), 20)
