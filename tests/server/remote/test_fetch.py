from __future__ import annotations

import hashlib
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganserve.bundle import BundleError, read_card, read_verified_file
from server.remote.errors import NotThere, RemoteError, RemoteUnavailable
from server.remote.fetch import Fetcher, Outcome
from server.remote.repository import RemoteRepository
from tests.server.remote.remotes import content, labels, web_server
from tests.server.tiny_bundles import publish_tiny_bundle
from tests.server.tiny_cards import GENERATOR

fsspec = pytest.importorskip("fsspec")
ROOT = Path(__file__).parents[3]
TINY_GRAPH = b"a graph"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A repository with tiny:1, tiny:2 and other:1, to be fetched from."""
    folder = tmp_path / "source"
    for name, version in (("tiny", 1), ("tiny", 2), ("other", 1)):
        publish_tiny_bundle(folder, name, version, seed=version)
    return folder


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Where to fetch to; does not exist."""
    return tmp_path / "models"


def url_of(folder: Path) -> str:
    return folder.as_uri()


def fetcher(source: Path, models: Path, *names: str, **settings: Any) -> Fetcher:
    return Fetcher(RemoteRepository(url_of(source)), models, names, **settings)


def test_it_copies_all_models_byte_by_byte(source: Path, models: Path) -> None:
    outcome = fetcher(source, models).fetch()
    assert [*outcome.fetched] == ["other:1", "tiny:2", "tiny:1"]
    assert outcome.fetched["tiny:1"] == (source / "tiny" / "1" / "model.onnx").stat().st_size
    assert outcome.settings == ["other", "tiny"]
    assert content(models) == content(source)
    assert not list(models.glob(".*"))


def test_it_copies_from_the_memory_of_the_process(source: Path, models: Path) -> None:
    files = fsspec.filesystem("memory")
    files.put(str(source), "/fetched", recursive=True)
    try:
        Fetcher(RemoteRepository("memory://fetched"), models).fetch()
    finally:
        files.rm("/fetched", recursive=True)
    assert content(models) == content(source)


def test_it_copies_only_the_models_that_are_named(source: Path, models: Path) -> None:
    fetcher(source, models, "other").fetch()
    assert labels(models) == ["other:1"]


@pytest.mark.parametrize(("name", "error"), [("absent", NotThere), ("../tiny", RemoteError)])
def test_a_model_that_is_not_there_is_named(name: str, error: type[Exception], source: Path, models: Path) -> None:
    with pytest.raises(error, match=f"--model.*{name}"):
        fetcher(source, models, "tiny", name).fetch()
    assert not models.exists()


def test_only_new_versions_are_fetched_again(source: Path, models: Path) -> None:
    fetcher(source, models).fetch()
    before = {path: path.stat().st_ino for path in models.rglob("*")}
    publish_tiny_bundle(source, "tiny", 3)
    heard: set[str] = set()
    outcome = fetcher(source, models, progress=lambda name, *_: heard.add(name)).fetch()
    assert [*outcome.fetched] == ["tiny:3"]
    assert outcome.present == ["other:1", "tiny:2", "tiny:1"]
    assert outcome.settings == []
    assert heard == {"tiny/3/model.onnx"}
    assert {path: path.stat().st_ino for path in before} == before


def test_the_same_fetcher_reads_no_card_twice(source: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = fetcher(source, models)
    one.fetch()
    read: list[str] = []
    real = RemoteRepository.download

    def download(self: RemoteRepository, path: str, *rest: Any) -> None:
        read.append(path)
        real(self, path, *rest)

    monkeypatch.setattr(RemoteRepository, "download", download)
    publish_tiny_bundle(source, "other", 2)
    assert one.fetch().present == ["other:1", "tiny:2", "tiny:1"]
    assert read == ["other/2/card.json", "other/2/model.onnx", "other/config.pbtxt", "tiny/config.pbtxt"]


def test_what_is_deleted_remotely_stays(source: Path, models: Path) -> None:
    one = fetcher(source, models)
    one.fetch()
    shutil.rmtree(source / "tiny" / "1")
    shutil.rmtree(source / "other")
    one.fetch()
    assert labels(models) == ["other:1", "tiny:1", "tiny:2"]


def test_a_damaged_file_costs_only_its_version(source: Path, models: Path) -> None:
    graph = source / "tiny" / "2" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    outcome = fetcher(source, models).fetch()
    assert labels(models) == ["other:1", "tiny:1"]
    [problem] = outcome.problems
    assert problem.startswith(f"{url_of(source)}/tiny/2/model.onnx: its sha256 differs from the card's")
    assert not list(models.glob(".*"))


def test_a_version_that_is_being_uploaded_is_fetched_once_it_is_complete(source: Path, models: Path) -> None:
    card = source / "tiny" / "2" / "card.json"
    text = card.read_bytes()
    graph = source / "tiny" / "1" / "model.onnx"
    uploaded = graph.read_bytes()
    card.unlink()
    graph.unlink()
    one = fetcher(source, models)
    outcome = one.fetch()
    assert (outcome.unfinished, [*outcome.fetched]) == (["tiny/2"], ["other:1"])
    assert [problem.partition(": ")[0] for problem in outcome.problems] == [f"{url_of(source)}/tiny/1/model.onnx"]
    card.write_bytes(text)
    graph.write_bytes(uploaded)
    assert [*one.fetch().fetched] == ["tiny:2", "tiny:1"]
    assert content(models) == content(source)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "not a valid card"),
        (b"[" * 100_000, "not a valid card"),
        (b" " * ((1 << 20) + 1), "larger than 1048576 bytes"),
        (msgspec.json.encode(msgspec.structs.replace(GENERATOR, name="mine", version=1)), "is the card of mine/1"),
        (msgspec.json.encode(msgspec.structs.replace(GENERATOR, name="tiny", version=2)), "is the card of tiny/2"),
    ],
)
def test_a_bad_card_costs_only_its_version(text: bytes, message: str, source: Path, models: Path) -> None:
    (source / "tiny" / "1" / "card.json").write_bytes(text)
    outcome = fetcher(source, models).fetch()
    assert labels(models) == ["other:1", "tiny:2"]
    assert [message in problem for problem in outcome.problems] == [True]


def write_version(folder: Path, *names: str) -> None:
    """Writes a version 3 of "tiny" whose card lists files with these names, and the files where possible."""
    files = dict.fromkeys(names, hashlib.sha256(TINY_GRAPH).hexdigest())
    folder.mkdir(parents=True)
    (folder / "card.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(GENERATOR, files=files)))


NAMES = st.text(max_size=40) | st.text("./\\~:%0a \x00\n", max_size=8)


@settings(max_examples=40)
@given(st.lists(NAMES, max_size=3))
def test_no_name_in_a_card_writes_elsewhere(names: list[str]) -> None:
    def download(_self: RemoteRepository, _path: str, target: Path, *_: object) -> None:
        target.write_bytes(TINY_GRAPH)

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        source, models = Path(folder, "source"), Path(folder, "deep", "models")
        write_version(source / "tiny" / "3", *names)
        reading = RemoteRepository(url_of(source))
        text = (source / "tiny" / "3" / "card.json").read_bytes()
        patch.setattr(RemoteRepository, "read", lambda *_: text)
        patch.setattr(RemoteRepository, "download", download)
        outcome = Fetcher(reading, models).fetch()
        written = {path.relative_to(folder).parts for path in Path(folder).rglob("*") if path.is_file()}
        expected = (
            {("deep", "models", "tiny", "3", name) for name in [*names, "card.json"]} if outcome.fetched else set()
        )
        assert written == {("source", "tiny", "3", "card.json"), *expected}


@pytest.mark.parametrize(
    "name", ["..", "../model.onnx", "/etc/passwd", "a/b", "a\\b", ".hidden", "", "card.json", "x" * 200, "a\x00b", "é"]
)
def test_a_file_name_that_is_none_is_refused(name: str, source: Path, models: Path) -> None:
    write_version(source / "tiny" / "3", name)
    outcome = fetcher(source, models, "tiny").fetch()
    assert labels(models) == ["tiny:1", "tiny:2"]
    [problem] = outcome.problems
    assert "which is no name of a file; export the model again" in problem


def test_another_export_under_the_same_version_replaces_nothing(source: Path, models: Path) -> None:
    publish_tiny_bundle(models, "tiny", 1, seed=7)
    before = content(models / "tiny" / "1")
    outcome = fetcher(source, models).fetch()
    assert content(models / "tiny" / "1") == before
    [problem] = outcome.problems
    assert problem.startswith(f"{models / 'tiny' / '1'}: is another export than that at {url_of(source)}")


def test_a_local_version_that_cannot_be_read_is_fetched_once_it_is_removed(source: Path, models: Path) -> None:
    broken = models / "tiny" / "1"
    broken.mkdir(parents=True)
    one = fetcher(source, models)
    [problem] = one.fetch().problems
    assert problem.endswith(f"or remove {broken} to fetch it again")
    broken.rmdir()
    assert [*one.fetch().fetched] == ["tiny:1"]


def test_settings_follow_the_remote_once_all_versions_are_there(source: Path, models: Path) -> None:
    one = fetcher(source, models)
    one.fetch()
    publish_tiny_bundle(source, "tiny", 3)
    graph = source / "tiny" / "3" / "model.onnx"
    complete = graph.read_bytes()
    graph.write_bytes(b"half")
    config = source / "tiny" / "config.pbtxt"
    config.write_text(config.read_text() + 'parameters { key: "version_label.stable" value { string_value: "3" } }\n')
    assert one.fetch().settings == []
    graph.write_bytes(complete)
    assert one.fetch().settings == ["tiny"]
    assert content(models) == content(source)


def test_a_new_model_has_its_settings_before_its_versions(
    source: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = RemoteRepository.download

    def download(self: RemoteRepository, path: str, *rest: Any) -> None:
        assert path.endswith("config.pbtxt") or (models / path.split("/", maxsplit=1)[0] / "config.pbtxt").exists()
        real(self, path, *rest)

    monkeypatch.setattr(RemoteRepository, "download", download)
    assert not fetcher(source, models).fetch().problems


def test_another_process_may_fetch_the_same_version_meanwhile(
    source: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = RemoteRepository.download

    def download(self: RemoteRepository, path: str, *rest: Any) -> None:
        real(self, path, *rest)
        if path == "tiny/2/model.onnx":
            shutil.copytree(source / "tiny" / "2", models / "tiny" / "2")

    monkeypatch.setattr(RemoteRepository, "download", download)
    assert not fetcher(source, models, "tiny").fetch().problems
    assert content(models) == {path: text for path, text in content(source).items() if path.startswith("tiny/")}


@pytest.mark.parametrize("name", ["", "tiny"])
def test_a_folder_that_cannot_be_written_to_is_named(name: str, source: Path, models: Path) -> None:
    models.mkdir()
    blocked = models / "file" if not name else models / name
    blocked.touch()
    with pytest.raises(RemoteUnavailable, match=rf"{models}.*; give a folder that can be written to$"):
        fetcher(source, blocked if not name else models).fetch()


def test_where_there_is_no_model_the_error_says_what_is_expected(source: Path, models: Path) -> None:
    with pytest.raises(RemoteUnavailable, match=r"/source/tiny: holds no model; .* as NAME/VERSION/card.json$"):
        fetcher(source / "tiny", models).fetch()
    assert not models.exists()


def test_the_url_of_one_version_is_enough(source: Path, models: Path) -> None:
    assert [*fetcher(source / "tiny" / "2", models).fetch().fetched] == ["tiny:2"]
    assert content(models / "tiny" / "2") == content(source / "tiny" / "2")


@pytest.mark.parametrize("index_pages", [True, False])
def test_it_copies_from_a_web_server(index_pages: bool, source: Path, models: Path) -> None:
    pytest.importorskip("aiohttp")
    (source / "tiny" / "index notes.txt").touch()
    with web_server(source, index_pages=index_pages) as url:
        if index_pages:
            assert not Fetcher(RemoteRepository(url), models).fetch().problems
            assert labels(models) == labels(source)
            return
        with pytest.raises(RemoteUnavailable, match=rf"^{url}: cannot be read \(ClientResponseError: 403"):
            Fetcher(RemoteRepository(url), models).fetch()
        assert [*Fetcher(RemoteRepository(f"{url}/tiny/2"), models).fetch().fetched] == ["tiny:2"]


def test_links_on_an_index_page_that_lead_elsewhere_are_no_models(source: Path, models: Path) -> None:
    pytest.importorskip("aiohttp")
    links = ["tiny/", "../", "/tiny/", "http://other.test/x/", "%2e%2e/", "?C=N;O=D", "absent/", "a/../../b/"]
    (source / "index.html").write_text("".join(f'<a href="{link}">x</a>' for link in links))
    with web_server(source) as url:
        assert Fetcher(RemoteRepository(url), models).fetch() == Outcome(
            fetched={f"tiny:{n}": (source / "tiny" / str(n) / "model.onnx").stat().st_size for n in (2, 1)},
            settings=["tiny"],
        )


HALF = """
import sys, threading
from pathlib import Path
from server.remote.repository import RemoteRepository
from server.remote.command import fetch
real = RemoteRepository.download
def download(self, path, target, *rest):
    real(self, path, target, *rest)
    if path == "tiny/1/model.onnx":
        target.write_bytes(target.read_bytes()[:100])
        print("half", flush=True)
        threading.Event().wait()
RemoteRepository.download = download
fetch(sys.argv[1], Path(sys.argv[2]), (), lambda line: None)
"""


@pytest.fixture
def half_fetched(source: Path, models: Path) -> Iterator[subprocess.Popen[str]]:
    """A fetch that stands still in the middle of tiny:1."""
    command = [sys.executable, "-c", HALF, url_of(source), str(models)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "half\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_fetch_that_is_stopped_in_the_middle_shows_no_half_version_and_can_be_repeated(
    number: signal.Signals, half_fetched: subprocess.Popen[str], source: Path, models: Path
) -> None:
    assert labels(models) == ["other:1", "tiny:2"]
    half_fetched.send_signal(number)
    assert half_fetched.wait(20) != 0
    assert labels(models) == ["other:1", "tiny:2"]
    assert bool(list(models.glob(".*"))) == (number == signal.SIGKILL)  # only that leaves the hidden folder
    assert [*fetcher(source, models).fetch().fetched] == ["tiny:1"]
    for label in labels(models):
        name, _, version = label.partition(":")
        folder = models / name / version
        assert read_verified_file(folder, read_card(folder), "model.onnx")


def test_the_check_of_a_fetched_version_can_fail(source: Path, models: Path) -> None:
    fetcher(source, models).fetch()
    folder = models / "tiny" / "1"
    (folder / "model.onnx").write_bytes(b"other")
    with pytest.raises(BundleError):
        read_verified_file(folder, read_card(folder), "model.onnx")
