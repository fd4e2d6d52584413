"""Models that answer from a thread of this process: bytes in, bytes out."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from client.errors import DeadlineExceeded, GanClientError, InvalidRequest, UnknownModel, VersionNotLoaded
from client.sdk.core_thread import CoreThread, Device, answer_of
from ganserve.v1 import generator_pb2 as pb
from tests.server.tiny_bundles import publish_tiny_bundle

GENERATE = "/ganserve.v1.Generator/Generate"
BODY = pb.GenerateRequest(model="tiny", seeded=pb.SeededLatents(seed=7, count=3)).SerializeToString()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("models")
    publish_tiny_bundle(models)
    publish_tiny_bundle(models, "other")
    return models


@pytest.fixture(scope="module")
def core(models: Path) -> Iterator[CoreThread]:
    opened = started(models)
    yield opened
    opened.close()


def started(models: Path, device: Device = "cpu", only: Mapping[str, int | None] | None = None) -> CoreThread:
    return CoreThread(models, device=device, cores=1, only=only)


def still_running(before: set[threading.Thread]) -> list[threading.Thread]:
    """Threads that have started since, and do not end."""
    started_since = set(threading.enumerate()) - before
    for thread in started_since:
        thread.join(60)  # one that has handed over its result is still about to end
    return [thread for thread in started_since if thread.is_alive()]


def test_a_message_in_gives_a_message_out(core: CoreThread) -> None:
    response = pb.GenerateResponse.FromString(answer_of(core.ask(GENERATE, BODY, 30)))
    assert (response.version, response.images.shape[0]) == (1, 3)


def test_a_request_without_a_deadline_is_answered(core: CoreThread) -> None:
    assert answer_of(core.ask(GENERATE, BODY, None)) == answer_of(core.ask(GENERATE, BODY, 30))


@pytest.mark.parametrize(
    ("body", "timeout_s", "kind", "text"),
    [
        (pb.GenerateRequest(model="nope").SerializeToString(), 30, UnknownModel, "nope"),
        (b"\xff\xff", 30, InvalidRequest, "GenerateRequest"),
        (BODY, 1e-9, DeadlineExceeded, "no images within 1e-09 s"),
    ],
)
def test_a_refusal_is_an_error_of_the_client(
    core: CoreThread, body: bytes, timeout_s: float, kind: type[GanClientError], text: str
) -> None:
    with pytest.raises(kind, match=text):
        answer_of(core.ask(GENERATE, body, timeout_s))


@pytest.mark.parametrize("only", [None, {"tiny": None}])
def test_close_ends_every_thread_and_later_requests(models: Path, only: Mapping[str, int | None] | None) -> None:
    before = set(threading.enumerate())
    core = started(models, only=only)
    late = core.ask(GENERATE, BODY, None)
    core.close()
    core.close()
    assert not still_running(before)
    assert late.done()
    with pytest.raises(InvalidRequest, match="closed"):
        core.ask(GENERATE, BODY, 30)


@pytest.mark.parametrize(
    ("folder", "device", "only", "kind", "text"),
    [
        ("none", "cpu", None, InvalidRequest, "^models: no model repository at"),
        ("none", "cpu", {"tiny": None}, InvalidRequest, "^models: no model repository at"),
        ("tiny", "cpu", None, InvalidRequest, "is a model, not a model repository"),
        (".", "cpu", {"nope": None}, UnknownModel, "no model 'nope' is in .*: use one of other, tiny$"),
        (".", "cpu", {"tiny": 9}, UnknownModel, "version 9 of 'tiny' is not in the repository: use one of 1"),
        (".", "cuda", None, InvalidRequest, "^device cuda: "),
        (".", "cuda", {"tiny": None}, InvalidRequest, "^device cuda: "),
    ],
)
def test_models_that_cannot_be_loaded_are_an_error_that_leaves_no_thread(
    models: Path,
    folder: str,
    device: Device,
    only: Mapping[str, int | None] | None,
    kind: type[GanClientError],
    text: str,
) -> None:
    before = set(threading.enumerate())
    with pytest.raises(kind, match=text) as raised:
        started(models / folder, device, only)
    assert str(raised.value).isprintable()
    assert not still_running(before)


def test_an_older_version_serves_unless_the_broken_one_is_wanted(tmp_path: Path) -> None:
    publish_tiny_bundle(tmp_path)
    (publish_tiny_bundle(tmp_path, version=2) / "model.onnx").write_bytes(b"no graph")
    core = started(tmp_path, only={"tiny": None})
    assert pb.GenerateResponse.FromString(answer_of(core.ask(GENERATE, BODY, 30))).version == 1
    core.close()
    with pytest.raises(VersionNotLoaded, match="version 2 was not loaded"):
        started(tmp_path, only={"tiny": 2})


@pytest.mark.parametrize("package", ["onnxruntime", "msgspec", "prometheus_client", "tritonclient"])
def test_a_missing_package_is_one_line_that_says_what_to_install(
    models: Path, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InvalidRequest, match=rf"needs {package}: pip install '\.\[serve\]'"):
        started(models)


@pytest.mark.parametrize("last", ["print(next(chunks).images.shape)", "client = chunks = None"])
def test_a_process_that_forgets_to_close_ends_quietly(models: Path, last: str) -> None:
    program = (
        "from client import LocalClient\n"
        f"client = LocalClient({str(models)!r}, device='cpu')\n"
        "chunks = client.generate_chunks('tiny', seed=1, count=1_000_000)\n"
        f"next(chunks)\n{last}"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
