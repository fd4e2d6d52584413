"""Responses that violate the contract: each is a ServerFault that names the violation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client import GanClient, ServerFault
from client.sdk.messages import FileFormat, PixelFormat, Response, files_from, images_from
from ganserve.v1 import generator_pb2 as pb
from tests.client.fake_server import FakeServer, tensor

UINT8, FLOAT32 = pb.DATA_TYPE_UINT8, pb.DATA_TYPE_FLOAT32


def answer(dtype: pb.DataType, shape: list[int], data: bytes) -> pb.GenerateResponse:
    return pb.GenerateResponse(model="dcgan", version=3, images=pb.Tensor(dtype=dtype, shape=shape, data=data))


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (pb.GenerateResponse(), "no tensor of images"),
        (pb.GenerateResponse(encoded=pb.EncodedImages(data=[b""])), "no tensor of images"),
        (answer(FLOAT32, [2, 4, 4, 1], bytes(128)), "data type 1, not 2 .uint8."),
        (answer(UINT8, [], b""), r"shape \(\) for 2 rows"),
        (answer(UINT8, [2, 4, 4], bytes(32)), r"shape \(2, 4, 4\) for 2 rows"),
        (answer(UINT8, [3, 4, 4, 1], bytes(48)), "for 2 rows"),
        (answer(UINT8, [2, -4, -4, 1], bytes(32)), "for 2 rows"),
        (answer(UINT8, [2, 0, 4, 1], b""), "for 2 rows"),
        (answer(UINT8, [2, 2**62, 4, 1], b""), "for 2 rows"),
        (answer(UINT8, [2, 4, 4, 5], bytes(160)), "5 channels"),
        (answer(UINT8, [2, 4, 4, 1], bytes(31)), "31 bytes instead of 32"),
        (answer(UINT8, [2, 4, 4, 1], bytes(33)), "33 bytes instead of 32"),
        (answer(UINT8, [2, 2**20, 2**20, 4], b""), "0 bytes instead of 8796093022208"),
    ],
)
def test_wrong_pixels_are_refused(response: pb.GenerateResponse, message: str) -> None:
    with pytest.raises(ServerFault, match=message):
        images_from(response, 2, "pixels")


def test_float32_images_have_four_bytes_per_value_and_channels_first() -> None:
    images = images_from(answer(FLOAT32, [1, 3, 2, 9], bytes(216)), 1, "float32")
    assert images.shape == (1, 3, 2, 9)
    assert images.dtype == np.float32
    with pytest.raises(ServerFault, match="54 bytes instead of 216"):
        images_from(answer(FLOAT32, [1, 3, 2, 9], bytes(54)), 1, "float32")


@given(
    shape=st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 4), max_size=5),
    dtype=st.integers(0, 3),
    data=st.binary(max_size=64),
    rows=st.integers(1, 3),
    image_format=st.sampled_from(["pixels", "float32"]),
)
def test_any_tensor_gives_an_array_of_its_shape_or_a_server_fault(
    shape: list[int], dtype: pb.DataType, data: bytes, rows: int, image_format: PixelFormat
) -> None:
    try:
        images = images_from(answer(dtype, shape, data), rows, image_format)
    except ServerFault:
        return
    assert images.shape == tuple(shape)
    assert images.tobytes() == data


FILES: dict[FileFormat, bytes] = {"png": b"\x89PNG\r\n\x1a\n", "jpeg": b"\xff\xd8\xff\xe0"}


@pytest.mark.parametrize("file_format", FILES)
def test_wrong_image_files_are_refused(file_format: FileFormat) -> None:
    good, name = FILES[file_format], file_format.upper()
    wrong: list[tuple[Response, str]] = [
        (answer(UINT8, [2, 4, 4, 1], bytes(32)), f"no {name} files"),
        (pb.GenerateResponse(), f"no {name} files"),
        (pb.TranslateResponse(encoded=pb.EncodedImages(data=[good])), f"1 {name} files for 2 rows"),
        (pb.TranslateResponse(encoded=pb.EncodedImages(data=[good, b"GIF89a"])), f"not a {name} file"),
        (pb.GenerateResponse(encoded=pb.EncodedImages(data=[good, b""])), f"not a {name} file"),
    ]
    for response, message in wrong:
        with pytest.raises(ServerFault, match=message):
            files_from(response, 2, file_format)


@given(files=st.lists(st.binary(max_size=12) | st.sampled_from(list(FILES.values())), max_size=3))
def test_any_files_have_the_requested_format_or_are_a_server_fault(files: list[bytes]) -> None:
    response = pb.TranslateResponse(encoded=pb.EncodedImages(data=files))
    for file_format, signature in FILES.items():
        try:
            taken = files_from(response, 2, file_format)
        except ServerFault:
            continue
        assert taken == files
        assert len(taken) == 2
        assert all(file.startswith(signature[:3]) for file in taken)


Change = Callable[[pb.GenerateResponse], object]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda response: setattr(response, "model", "wgan"), "from the model 'wgan', not 'dcgan'"),
        (lambda response: setattr(response, "version", 2), "from version 2, not 3"),
        (lambda response: setattr(response, "version", 0), "from version 0"),
        (lambda response: response.ClearField("images"), "no tensor of images"),
    ],
)
def test_a_response_for_another_model_or_version_is_refused(
    server: FakeServer, client: GanClient, change: Change, message: str
) -> None:
    def wrong(request: pb.GenerateRequest) -> pb.GenerateResponse:
        response = server.images_for(request)
        change(response)
        return response

    server.answer = wrong
    with pytest.raises(ServerFault, match=message):
        client.generate("dcgan", version=3)


def test_chunks_of_different_shapes_are_refused(server: FakeServer, client: GanClient) -> None:
    def growing(request: pb.GenerateRequest) -> pb.GenerateResponse:
        side, rows = len(server.requests), request.latents.shape[0]
        pixels = np.zeros((rows, side, side, 1), np.uint8)
        return pb.GenerateResponse(model="dcgan", version=3, images=tensor(pixels))

    server.answer = growing
    with pytest.raises(ServerFault, match="earlier ones had"):
        client.generate("dcgan", seed=0, count=300)


def test_a_translation_of_another_model_is_refused(server: FakeServer, client: GanClient) -> None:
    def wrong(request: pb.TranslateRequest) -> pb.TranslateResponse:
        response = server.translation_for(request)
        response.model = "b2a"
        return response

    server.translate_answer = wrong
    with pytest.raises(ServerFault, match="from the model 'b2a', not 'a2b'"):
        client.translate("a2b", np.zeros((1, 4, 3, 3), np.uint8))
