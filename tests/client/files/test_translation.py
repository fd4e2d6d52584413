from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from client.errors import ServerBusy
from client.files.picture_files import PictureFile
from client.files.translation import Failures, FileTranslation
from client.sdk.calls import BUSY_PAUSES_S, Translator
from client.sdk.transport import Connection
from ganserve.v1 import generator_pb2 as pb
from tests.client.fake_server import FakeServer, encoded, rows_of

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 4, 3, 3), dtype=np.uint8)
QUEUE_FULL = (grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full")


@pytest.fixture
def connection(server: FakeServer) -> Iterator[Connection]:
    with Connection(server.address, timeout_s=20) as opened:
        yield opened


@pytest.fixture
def files(here: Path) -> list[PictureFile]:
    for index, image in enumerate(IMAGES):
        Path(f"{index}.png").write_bytes(encoded(image))
    return [PictureFile(f"{index}.png", f"out/{index}.png") for index in range(len(IMAGES))]


def translation(connection: Connection, lines: list[str], pauses_s: list[float]) -> FileTranslation:
    """A run that records its lines and pauses instead of printing and sleeping."""
    translator = Translator(connection, "a2b", None, resize=False, image_format="png", sleep=pauses_s.append)
    return FileTranslation(translator, "png", Failures(lines.append), None, lambda _: None)


def written() -> dict[int, list[int]]:
    """The pixels of each existing file."""
    return {int(path.stem): np.asarray(Image.open(path)).ravel().tolist() for path in Path("out").iterdir()}


def test_an_outage_during_a_run_only_delays_it(
    server: FakeServer, connection: Connection, files: list[PictureFile]
) -> None:
    def busy_then_slow(request: pb.TranslateRequest) -> pb.TranslateResponse:
        server.translate_answer = None
        server.failures.extend([QUEUE_FULL] * 3)
        server.rows_in_time = 3
        return server.translation_for(request)

    server.translate_answer = busy_then_slow
    lines: list[str] = []
    pauses_s: list[float] = []
    translation(connection, lines, pauses_s).run(files)
    assert (lines, len(pauses_s)) == ([], 3)
    assert max(map(rows_of, server.translations)) > 3
    assert written() == {index: (255 - image).ravel().tolist() for index, image in enumerate(IMAGES)}


def test_only_the_bad_file_fails_in_a_request_sent_in_parts(
    server: FakeServer, connection: Connection, files: list[PictureFile]
) -> None:
    Path("3.png").write_bytes(encoded(np.zeros((9, 9, 3), np.uint8)))
    server.rows_in_time = 2
    lines: list[str] = []
    translation(connection, lines, []).run(files)
    assert lines == ["3.png: is 9x9, not 3x4: give --resize"]
    assert written() == {index: (255 - image).ravel().tolist() for index, image in enumerate(IMAGES) if index != 3}


def test_a_server_that_stays_busy_ends_the_run_and_keeps_its_outputs(
    server: FakeServer, connection: Connection, files: list[PictureFile]
) -> None:
    def then_busy(request: pb.TranslateRequest) -> pb.TranslateResponse:
        server.failures.extend([QUEUE_FULL] * 50)
        return server.translation_for(request)

    server.translate_answer = then_busy
    pauses_s: list[float] = []
    with pytest.raises(ServerBusy):
        translation(connection, [], pauses_s).run(files)
    assert len(pauses_s) == len(BUSY_PAUSES_S)
    assert sorted(written()) == [0, 1, 2, 3]


def test_every_failure_is_printed_after_the_first_success() -> None:
    lines: list[str] = []
    failures = Failures(lines.append)
    failures.any_succeeded = True
    for index in range(40):
        failures.add(f"{index}.png", "is empty")
    failures.report_rest()
    assert lines == [f"{index}.png: is empty" for index in range(40)]
    assert len(failures) == 40


def test_if_all_files_fail_alike_only_the_first_few_and_a_count_are_printed() -> None:
    lines: list[str] = []
    failures = Failures(lines.append)
    for index in range(100_000):
        failures.add(f"{index}.png", f"is {index}x7, not 3x4")
    failures.report_rest()
    assert lines[0] == "0.png: is 0x7, not 3x4"
    assert lines[5:] == ["... and 99995 more like this: is 0x7, not 3x4"]
    assert len(failures) == 100_000


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 2000), st.integers(0, 2000)) | st.just((False, 0, 0)), max_size=50
    ),
    st.integers(1, 100),
)
def test_the_number_of_lines_is_bounded_and_counts_are_exact(events: list[tuple[bool, int, int]], times: int) -> None:
    lines: list[str] = []
    failures = Failures(lines.append)
    added = 0
    for succeeded, kind, number in events:
        failures.any_succeeded |= succeeded
        for _ in range(times):
            failures.add("a.png", f"{'x' * kind} {number}")
            added += 1
    assert len(failures) == added
    said = len(lines)
    assert said <= 1000
    failures.report_rest()
    rest = lines[said:]
    assert len(rest) <= 51
    assert said + sum(int(line.split()[2]) for line in rest) == added
