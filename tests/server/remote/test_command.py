from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from server.__main__ import main
from server.errors import StartupError
from server.remote.command import cache_folder, local_copy
from tests.server.remote.remotes import content, labels
from tests.server.tiny_bundles import publish_tiny_bundle

pytest.importorskip("fsspec")
ROOT = Path(__file__).parents[3]
ANY_PORTS = ["--address", "127.0.0.1:0", "--metrics-address", "none", "--device", "cpu", "--lame-duck-s", "0"]
Launch = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Starts `python -m server` with a cache of its own; kills it at the end if it still runs."""
    processes: list[subprocess.Popen[str]] = []

    def launch_one(*flags: str) -> subprocess.Popen[str]:
        environment = {"PATH": "", "XDG_CACHE_HOME": str(tmp_path / "cache")}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "server", *flags],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return processes[-1]

    yield launch_one
    for process in processes:
        process.kill()
        process.communicate()


def wait_for(stream: object, pattern: str) -> str:
    """Reads a log up to a line; the time limit of the test bounds the wait."""
    assert stream is not None
    seen = []
    for line in stream:  # type: ignore[attr-defined]  # a text stream
        seen.append(line)
        if re.search(pattern, line):
            return str(line)
    raise AssertionError("".join(seen))


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["fetch", *arguments], prog_name="python -m server")
    return result.exit_code, result.stdout, result.stderr


def test_it_prints_what_it_has_fetched_and_what_to_do_next(repository: Path, tmp_path: Path) -> None:
    folder = str(tmp_path / "my models")
    code, printed, errors = run(repository.as_uri(), folder)
    assert (code, errors) == (0, "")
    assert printed.splitlines() == [
        f"tiny:1: {(repository / 'tiny' / '1' / 'model.onnx').stat().st_size / 1000:.1f} kB",
        "tiny: config.pbtxt",
        f"1 version fetched, 0 there already; serve with: python -m server --models '{folder}'",
    ]
    assert run(repository.as_uri(), folder)[1] == (
        f"0 versions fetched, 1 there already; serve with: python -m server --models '{folder}'\n"
    )


def test_the_folder_is_models_unless_it_is_given(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert run(repository.as_uri(), "--model", "tiny")[0] == 0
    assert labels(Path("models")) == ["tiny:1"]


def test_versions_that_could_not_be_fetched_are_an_error_after_the_others(repository: Path, tmp_path: Path) -> None:
    for version in (2, 3):
        (publish_tiny_bundle(repository, "tiny", version) / "model.onnx").write_bytes(b"damaged")
    (publish_tiny_bundle(repository, "tiny", 4) / "card.json").unlink()
    code, printed, errors = run(repository.as_uri(), str(tmp_path / "fetched"))
    assert code == 2
    assert "tiny/4: has no card.json yet; fetch it once it is uploaded\n" in printed
    assert "1 version fetched" in printed
    assert [line.partition("model.onnx: its sha256")[0] for line in errors.splitlines()] == [
        f"Error: {repository.as_uri()}/tiny/{version}/" for version in (3, 2)
    ]


@pytest.mark.parametrize("every", [(), ("--every", "60")])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["models"], "models: is no URL; give one such as s3://bucket/models, or copy the folder"),
        (["odd://bucket"], "odd://bucket: cannot be opened (ValueError: Protocol not known: odd); give a URL like"),
        (["memory://a", "--model", "a/b"], "--model: model name 'a/b': use 1 to 64 letters"),
    ],
)
def test_what_can_never_work_ends_with_one_line(
    arguments: list[str], message: str, every: tuple[str, ...], tmp_path: Path
) -> None:
    code, printed, errors = run(arguments[0], str(tmp_path / "fetched"), *arguments[1:], *every)
    assert (code, printed) == (2, "")
    assert errors.splitlines()[-1].startswith(f"Error: {message}")
    assert not (tmp_path / "fetched").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_fetches_again_until_it_is_stopped(
    number: signal.Signals, repository: Path, tmp_path: Path, launch: Launch
) -> None:
    folder, hidden = tmp_path / "fetched", tmp_path / "hidden"
    process = launch("fetch", repository.as_uri(), str(folder), "--every", "0.1")
    wait_for(process.stderr, "fetched tiny:1, ")
    repository.rename(hidden)
    wait_for(process.stderr, r"there is no such bucket, .* trying again every 0.1 s, what is there stays")
    publish_tiny_bundle(hidden, "tiny", 2)
    hidden.rename(repository)
    wait_for(process.stderr, "fetched tiny:2, ")
    process.send_signal(number)
    _, log = process.communicate(timeout=20)
    assert process.returncode == 0
    assert log.splitlines()[-1].endswith("INFO stopped")
    assert "Traceback" not in log
    assert content(folder) == content(repository)


def test_a_server_that_polls_serves_what_another_process_fetches(
    repository: Path, tmp_path: Path, launch: Launch
) -> None:
    folder = tmp_path / "fetched"
    fetch = launch("fetch", repository.as_uri(), str(folder), "--every", "0.1")
    wait_for(fetch.stderr, "fetched tiny:1, ")
    server = launch("--models", str(folder), "--model-control", "poll", "--poll-s", "0.1", *ANY_PORTS)
    wait_for(server.stdout, "ready: serving tiny:1 ")
    publish_tiny_bundle(repository, "tiny", 2)
    wait_for(server.stderr, "tiny:2: onnx on cpu, .* loaded and warmed up")


def test_models_at_a_url_are_fetched_served_and_followed(repository: Path, tmp_path: Path, launch: Launch) -> None:
    flags = ["--models", repository.as_uri(), "--model-control", "poll", "--poll-s", "0.1", *ANY_PORTS]
    server = launch(*flags)
    printed = wait_for(server.stdout, "^models of file:///")
    wait_for(server.stdout, "ready: serving tiny:1 ")
    publish_tiny_bundle(repository, "tiny", 2)
    wait_for(server.stderr, "tiny:2: onnx on cpu, .* loaded and warmed up")
    server.terminate()
    assert server.wait(20) == 0
    folder = Path(printed.split(" are in ")[1].strip())
    assert folder.is_relative_to(tmp_path / "cache" / "ganserve" / "models")
    assert content(folder) == content(repository)


def test_without_poll_models_at_a_url_are_fetched_once(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = []

    async def serve(config: object, *_: object) -> int:
        configs.append(config)
        return 0

    followed: list[object] = []

    def local_copy(_: str, every_s: float | None, __: object) -> Path:
        followed.append(every_s)
        return repository

    monkeypatch.setattr("server.app.serve", serve)
    monkeypatch.setattr("server.remote.command.local_copy", local_copy)
    for flags in ([], ["--model-control", "explicit"], ["--model-control", "poll", "--poll-s", "7"]):
        assert CliRunner().invoke(main, ["--models", "s3://bucket/models", *flags]).exit_code == 0
    assert followed == [None, None, 7]
    assert {config.models for config in configs} == {repository}  # type: ignore[attr-defined]  # a ServerConfig


def test_if_the_remote_fails_what_was_fetched_before_is_served(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    said: list[str] = []
    folder = local_copy(repository.as_uri(), None, said.append)
    assert said == [f"models of {repository.as_uri()} are in {folder}"]
    shutil.rmtree(repository)
    assert local_copy(repository.as_uri(), None, said.append) == folder
    assert caplog.messages[-1].endswith("; serving what was fetched before")
    shutil.rmtree(folder / "tiny")
    with pytest.raises(StartupError, match=rf"^--models {repository.as_uri()}: there is no such bucket"):
        local_copy(repository.as_uri(), None, said.append)


def test_each_url_has_its_own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    urls = ["s3://a/b", "gs://a/b", "s3://a-b", "s3://../../b", f"s3://{'x' * 300}", "hf://user/repository@v1"]
    folders = [cache_folder(url) for url in urls]
    assert len(set(folders)) == len(urls)
    assert {folder.parent for folder in folders} == {tmp_path / "ganserve" / "models"}


def test_a_cache_that_cannot_be_made_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(StartupError, match=r"^--models: cannot write to the cache .*; set XDG_CACHE_HOME to another"):
        cache_folder("s3://a/b")


def test_the_commands_load_fsspec_only_for_a_url() -> None:
    code = "import sys, server.__main__; print(sorted({'fsspec', 'aiohttp', 'rich', 's3fs'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
