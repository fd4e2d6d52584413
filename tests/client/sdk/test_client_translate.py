"""The translate methods of GanClient; the fake server answers with negatives."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from client import DeadlineExceeded, GanClient, InvalidRequest, ServerFault
from client.sdk.input_images import MAX_REQUEST_IMAGE_BYTES
from ganserve.v1 import generator_pb2 as pb
from tests.client.fake_server import FakeServer, encoded, rows_of, tensor, translator

Code = grpc.StatusCode


def random_images(rows: int, height: int = 4, width: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (rows, height, width, 3), dtype=np.uint8)


def test_pixels_are_sent_and_come_back_translated(server: FakeServer, client: GanClient) -> None:
    images = random_images(2)
    made = client.translate("a2b", images)
    assert made.dtype == np.uint8
    np.testing.assert_array_equal(made, 255 - images)
    made[:] = 0  # callers may modify the array
    expected = pb.TranslateRequest(model="a2b", pixels=tensor(images), format=pb.IMAGE_FORMAT_PIXELS)
    assert server.translations == [expected]


def test_files_and_pil_images_are_sent_in_one_list(server: FakeServer, client: GanClient) -> None:
    images = random_images(2)
    made = client.translate("a2b", [encoded(images[0]), Image.fromarray(images[1])])
    np.testing.assert_array_equal(made, 255 - images)
    assert [rows_of(request) for request in server.translations] == [2]


def test_float32_images_are_channels_first(client: GanClient) -> None:
    images = random_images(2)
    made = client.translate("a2b", images, format="float32")
    assert made.dtype == np.float32
    np.testing.assert_array_equal(made, (255 - images).transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1)


@pytest.mark.parametrize("file_format", ["png", "jpeg"])
def test_files_have_the_requested_format(client: GanClient, file_format: Any) -> None:
    images = random_images(3)
    files = client.translate_encoded("a2b", [encoded(image) for image in images], format=file_format)
    decoded = [Image.open(io.BytesIO(file)) for file in files]
    assert {image.format for image in decoded} == {file_format.upper()}
    if file_format == "png":
        np.testing.assert_array_equal(np.stack([np.asarray(image) for image in decoded]), 255 - images)


def test_other_sizes_are_resized_only_on_request(client: GanClient) -> None:
    files = [encoded(image) for image in random_images(1, 8, 6)]
    with pytest.raises(InvalidRequest, match=r"images\[0\] is 6x8, not 3x4: set resize"):
        client.translate("a2b", files)
    assert client.translate("a2b", files, resize=True).shape == (1, 4, 3, 3)


@pytest.mark.parametrize("max_request_rows", [1, 7, 1024])
def test_many_rows_are_split_and_keep_their_order(server: FakeServer, client: GanClient, max_request_rows: int) -> None:
    images = random_images(30)
    server.models = [translator(max_request_rows=max_request_rows)]
    np.testing.assert_array_equal(client.translate("a2b", images), 255 - images)
    sizes = [rows_of(request) for request in server.translations]
    assert sum(sizes) == 30
    assert len(sizes) > 1
    assert max(sizes) <= max_request_rows


def test_requests_respect_the_byte_limit(server: FakeServer, client: GanClient) -> None:
    file = encoded(random_images(1)[0]) + bytes(MAX_REQUEST_IMAGE_BYTES // 3)  # decoders ignore what follows
    assert len(client.translate_encoded("a2b", images=[file] * 5)) == 5
    assert rows_of(server.translations[0]) == 2
    assert max(request.ByteSize() for request in server.translations) < 32 << 20


def test_an_endless_source_is_read_on_demand(client: GanClient) -> None:
    read = itertools.count()

    def endless() -> Iterator[bytes]:
        while True:
            next(read)
            yield encoded(random_images(1)[0])

    chunks = client.translate_encoded_chunks("a2b", endless())
    taken = len(next(chunks).files) + len(next(chunks).files)
    assert next(read) == taken


def test_all_chunks_come_from_one_version_even_if_a_newer_one_appears(server: FakeServer, client: GanClient) -> None:
    def answer(request: pb.TranslateRequest) -> pb.TranslateResponse:
        response = server.translation_for(request)
        server.models.append(translator(version=6))
        return response

    server.translate_answer = answer
    chunks = list(client.translate_chunks("a2b", images=random_images(9)))
    assert {chunk.version for chunk in chunks} == {5}
    assert [request.version for request in server.translations] == [0, *[5] * (len(chunks) - 1)]
    assert len(chunks) > 1


def test_an_empty_list_of_images_is_an_error(client: GanClient) -> None:
    with pytest.raises(InvalidRequest, match="images: must not be empty"):
        client.translate("a2b", [])
    with pytest.raises(InvalidRequest, match="images: must not be empty"):
        client.translate_encoded("a2b", iter(()))


def test_each_call_refuses_formats_of_the_other(client: GanClient) -> None:
    with pytest.raises(InvalidRequest, match="format: must be 'pixels' or 'float32', not 'png'"):
        client.translate("a2b", random_images(1), format="png")  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(InvalidRequest, match="format: must be 'png' or 'jpeg', not 'pixels'"):
        client.translate_encoded("a2b", random_images(1), format="pixels")  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(InvalidRequest, match="format: must be 'png' or 'jpeg', not 'gif'"):
        client.generate_encoded("dcgan", format="gif")  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.usefixtures("quick_retries")
def test_requests_to_an_unavailable_server_are_retried(server: FakeServer, client: GanClient) -> None:
    server.failures.extend([(Code.UNAVAILABLE, "starting")] * 2)
    assert len(client.translate("a2b", random_images(1))) == 1
    assert len(server.translations) == 3


@pytest.mark.usefixtures("quick_retries")
def test_the_largest_requests_are_retried_too(server: FakeServer, client: GanClient) -> None:
    server.failures.append((Code.UNAVAILABLE, "starting"))
    file = encoded(random_images(1)[0])
    assert len(client.translate("a2b", [file + bytes(MAX_REQUEST_IMAGE_BYTES - len(file))])) == 1
    assert len(server.translations) == 2


def test_a_refused_row_is_named_by_its_position_in_the_callers_input(server: FakeServer, client: GanClient) -> None:
    files = [encoded(image) for image in random_images(60)]
    files[57] = encoded(random_images(1, 9, 9)[0])
    with pytest.raises(InvalidRequest, match=r"^images\[57\] is 9x9, not 3x4: set resize$"):
        client.translate("a2b", files)
    assert rows_of(server.translations[-1]) > 1
    server.rows_in_time = 1  # also when it is resent alone
    with pytest.raises(InvalidRequest, match=r"^images\[57\] is 9x9"):
        client.translate("a2b", files)
    assert rows_of(server.translations[-1]) == 1


def test_requests_that_miss_their_deadline_are_sent_in_parts(server: FakeServer, client: GanClient) -> None:
    images = random_images(23)
    server.rows_in_time = 3
    np.testing.assert_array_equal(client.translate("a2b", images), 255 - images)
    np.testing.assert_array_equal(client.translate("a2b", [encoded(image) for image in images]), 255 - images)
    assert max(map(rows_of, server.translations)) > 3


def test_a_hanging_server_is_given_up_at_the_deadline(server: FakeServer) -> None:
    server.released.clear()
    with (
        GanClient(server.address, timeout_s=0.2) as client,
        pytest.raises(DeadlineExceeded, match=r"within 0\.2 s"),
    ):
        client.translate("a2b", random_images(1))


def test_chunks_of_different_shapes_are_refused(server: FakeServer, client: GanClient) -> None:
    def growing(request: pb.TranslateRequest) -> pb.TranslateResponse:
        side = len(server.translations)
        images = np.zeros((rows_of(request), side, side, 3), np.uint8)
        return pb.TranslateResponse(model="a2b", version=5, images=tensor(images))

    server.translate_answer = growing
    with pytest.raises(ServerFault, match="earlier ones had"):
        client.translate("a2b", random_images(9))
