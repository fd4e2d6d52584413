from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from client import (
    DeadlineExceeded,
    GanClient,
    InvalidRequest,
    ServerUnreachable,
)
from client.sdk.chunking import MAX_CHUNK_BYTES, max_chunk_rows
from client.sdk.client import renamed_argument
from client.sdk.model_info import models_from
from ganserve.latents import DISTRIBUTIONS, latents_from_seed
from ganserve.v1 import generator_pb2 as pb
from tests.client.fake_server import FakeServer, model, pixels_of, rows_of

Code = grpc.StatusCode


def test_a_seed_gives_the_pixels_of_its_latents(server: FakeServer, client: GanClient) -> None:
    images = client.generate("dcgan", seed=5, count=4)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, pixels_of(latents_from_seed(5, 4, 6), 4, 3, 1))
    assert server.requests == [
        pb.GenerateRequest(model="dcgan", seeded=pb.SeededLatents(seed=5, count=4), format=pb.IMAGE_FORMAT_PIXELS)
    ]
    images[:] = 0  # callers may modify the array


COUNTED = ["generate", "generate_chunks", "generate_encoded", "generate_encoded_chunks", "generate_pictures", "grid"]


@pytest.mark.parametrize("call", COUNTED)
def test_n_is_another_name_of_count(server: FakeServer, client: GanClient, call: str) -> None:
    for name in ("count", "n"):
        list(iterable if isinstance(iterable := getattr(client, call)("dcgan", seed=5, **{name: 3}), Iterable) else ())
    assert [rows_of(request) for request in server.requests] == [3, 3]
    with pytest.raises(InvalidRequest, match="n: is another name of count; give only one"):
        getattr(client, call)("dcgan", seed=5, count=3, n=3)


def test_latents_may_follow_the_model_without_their_name(server: FakeServer, client: GanClient) -> None:
    latents = latents_from_seed(5, 2, 6)
    np.testing.assert_array_equal(client.generate("dcgan", latents), pixels_of(latents, 4, 3, 1))
    assert len(client.generate_encoded("dcgan", latents)) == len(client.generate_pictures("dcgan", latents)) == 2


def test_dir_lists_the_public_names_only(client: GanClient) -> None:
    assert {"generate", "grid", "translate", "models", "close"} <= set(dir(client))
    assert not [name for name in dir(client) if name.startswith("_")]


@pytest.mark.parametrize("max_request_rows", [0, 1024, 100, 1])
def test_a_large_count_is_split_and_gives_the_same_pixels(
    server: FakeServer, client: GanClient, max_request_rows: int
) -> None:
    server.models = [model(max_request_rows=max_request_rows)]
    count = 5 if max_request_rows == 1 else 600
    images = client.generate("dcgan", seed=9, count=count)
    np.testing.assert_array_equal(images, pixels_of(latents_from_seed(9, count, 6), 4, 3, 1))
    limit = min(max_request_rows or 256, 256)
    sizes = [rows_of(request) for request in server.requests]
    assert sizes[:-1] == [limit] * (len(sizes) - 1)
    assert sum(sizes) == count
    assert sizes[-1] <= limit


def test_latents_are_sent_in_chunks_and_keep_their_order(server: FakeServer, client: GanClient) -> None:
    latents = np.random.default_rng(0).standard_normal((300, 6))
    images = client.generate("dcgan", latents=latents)
    np.testing.assert_array_equal(images, pixels_of(latents.astype(np.float32), 4, 3, 1))
    assert [rows_of(request) for request in server.requests] == [256, 44]


def test_float32_images_are_channels_first(client: GanClient) -> None:
    images = client.generate("dcgan", seed=1, count=2, format="float32")
    pixels = pixels_of(latents_from_seed(1, 2, 6), 4, 3, 1)
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images, pixels.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1)


def test_png_files_hold_the_images_of_the_rows(server: FakeServer, client: GanClient) -> None:
    server.models = [model(max_request_rows=2)]
    files = client.generate_encoded("dcgan", seed=1, count=3)
    expected = pixels_of(latents_from_seed(1, 3, 6), 4, 3, 1)
    decoded = [np.asarray(Image.open(io.BytesIO(file))) for file in files]
    np.testing.assert_array_equal(np.stack(decoded), expected[..., 0])


def test_responses_larger_than_grpcs_default_limit_arrive(server: FakeServer, client: GanClient) -> None:
    server.models = [model(height=256, width=256, channels=3)]
    assert client.generate("dcgan", seed=0, count=30).nbytes > 4 << 20


def test_without_a_seed_calls_give_different_images(client: GanClient) -> None:
    assert client.generate("dcgan").shape == (1, 4, 3, 1)
    first, second = client.generate("dcgan", count=50), client.generate("dcgan", count=50)
    assert (first != second).any()


@given(
    max_request_rows=st.integers(0, 2000),
    side=st.integers(1, 2048),
    channels=st.integers(1, 4),
    image_format=st.sampled_from(["pixels", "float32", "png", "jpeg"]),
)
def test_chunks_respect_every_limit(max_request_rows: int, side: int, channels: int, image_format: str) -> None:
    message = model(height=side, width=side, channels=channels, max_request_rows=max_request_rows)
    [info] = models_from(pb.ListModelsResponse(models=[message]))
    rows = max_chunk_rows(info, image_format)
    assert 1 <= rows <= min(256, max_request_rows or 256)
    image_bytes = side * side * channels * (4 if image_format == "float32" else 1)
    assert rows * image_bytes <= MAX_CHUNK_BYTES or rows == 1


def test_all_chunks_come_from_one_version_even_if_a_newer_one_appears(server: FakeServer, client: GanClient) -> None:
    server.models = [model(version=2), model(version=3)]

    def answer(request: pb.GenerateRequest) -> pb.GenerateResponse:
        response = server.images_for(request)
        server.models.append(model(version=4))
        return response

    server.answer = answer
    chunks = list(client.generate_chunks("dcgan", seed=0, count=300))
    assert [chunk.version for chunk in chunks] == [3, 3]
    assert [request.version for request in server.requests] == [0, 3]


def test_an_older_version_can_be_requested(server: FakeServer, client: GanClient) -> None:
    server.models = [model(version=2, max_request_rows=10), model(version=3)]
    chunks = list(client.generate_chunks("dcgan", seed=0, count=20, version=2))
    assert [chunk.version for chunk in chunks] == [2, 2]


@pytest.mark.parametrize("distribution", [*DISTRIBUTIONS, ""])
def test_a_split_call_draws_what_the_server_draws(server: FakeServer, client: GanClient, distribution: str) -> None:
    server.models = [model(latent_distribution=distribution)]
    whole = client.generate("dcgan", seed=4, count=9)
    server.models = [model(version=4, latent_distribution=distribution, max_request_rows=4)]
    np.testing.assert_array_equal(client.generate("dcgan", seed=4, count=9, version=4), whole)


def test_splitting_needs_a_distribution_that_the_client_can_draw(server: FakeServer, client: GanClient) -> None:
    server.models = [model(latent_distribution="cauchy", max_request_rows=4)]
    assert len(client.generate("dcgan", seed=0, count=4)) == 4
    with pytest.raises(InvalidRequest, match=r"count: at most 4 for 'dcgan'.*'cauchy'"):
        client.generate("dcgan", seed=0, count=5)


@pytest.mark.usefixtures("quick_retries")
def test_requests_to_an_unavailable_server_are_retried(server: FakeServer, client: GanClient) -> None:
    server.failures.extend([(Code.UNAVAILABLE, "starting")] * 2)
    assert len(client.generate("dcgan", seed=0, count=2)) == 2
    assert len(server.requests) == 3


@pytest.mark.usefixtures("quick_retries")
def test_requests_larger_than_grpcs_default_retry_buffer_are_retried(server: FakeServer, client: GanClient) -> None:
    server.models = [model(latent_dim=2000)]
    server.failures.append((Code.UNAVAILABLE, "starting"))
    latents = np.ones((256, 2000), np.float32)
    assert latents.nbytes > 256 << 10
    assert len(client.generate("dcgan", latents=latents)) == 256
    assert len(server.requests) == 2


@pytest.mark.usefixtures("quick_retries")
def test_retries_end(server: FakeServer, client: GanClient) -> None:
    server.failures.extend([(Code.UNAVAILABLE, "draining")] * 50)
    with pytest.raises(ServerUnreachable, match=rf"no server is ready at {server.address} \(draining\); start one"):
        client.generate("dcgan")
    assert len(server.requests) == 5


@pytest.mark.usefixtures("quick_retries")
def test_the_error_for_an_unreachable_server_names_the_address() -> None:
    with FakeServer().serve() as stopped:
        address = stopped.address
    with GanClient(address) as client, pytest.raises(ServerUnreachable, match=address):
        client.models()


def test_a_hanging_server_is_given_up_at_the_deadline(server: FakeServer) -> None:
    server.released.clear()
    with (
        GanClient(server.address, timeout_s=0.2) as client,
        pytest.raises(DeadlineExceeded, match=r"within 0\.2 s.*raise the timeout"),
    ):
        client.generate("dcgan")


def test_a_format_must_be_known(client: GanClient) -> None:
    with pytest.raises(InvalidRequest, match="format: must be 'pixels' or 'float32', not 'gif'"):
        client.generate("dcgan", format="gif")  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf"), 1e9])
def test_the_timeout_is_validated(timeout_s: float) -> None:
    with pytest.raises(InvalidRequest, match="timeout_s: must be more than 0"):
        GanClient(timeout_s=timeout_s)


def test_calls_of_a_closed_client_raise(server: FakeServer) -> None:
    with GanClient(server.address) as client:
        client.models()
    with pytest.raises(InvalidRequest, match="closed"):
        client.models()


def test_importing_the_client_loads_no_runtime_and_no_other_stage() -> None:
    program = (
        "import sys, client, client.__main__;"
        "print([name for name in sys.modules if name.split('.')[0] in"
        " {'torch', 'torchvision', 'onnx', 'onnxruntime', 'server', 'trainer', 'exporter', 'msgspec'}])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_importing_the_sdk_loads_no_command_line() -> None:
    program = "import sys, client; print({'click', 'rich', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"


def test_the_package_exports_exactly_its_public_names() -> None:
    import client as package

    for name in package.__all__:
        assert getattr(package, name).__name__ == name
    with pytest.raises(AttributeError, match="module 'client' has no attribute 'GanClint'"):
        package.GanClint  # type: ignore[attr-defined]  # noqa: B018  (wrong on purpose)
    namespace: dict[str, object] = {}
    exec("from client import *", namespace)
    assert set(package.__all__) <= set(namespace)


OLD_NAMES = {
    "generate_chunks": "image_format",
    "generate_encoded_chunks": "file_format",
    "translate_chunks": "image_format",
    "translate_encoded_chunks": "file_format",
}


@renamed_argument("old", "new")
def doubled(*, new: int = 1) -> int:
    return 2 * new


def test_the_new_name_gives_no_warning() -> None:
    assert doubled(new=3) == 6
    assert doubled() == 2


def test_the_old_name_works_with_a_warning_at_the_callers_line() -> None:
    with pytest.warns(DeprecationWarning, match="doubled: 'old' is now 'new'") as warned:
        assert doubled(old=3) == 6  # type: ignore[call-arg]  # the old name
    assert warned[0].filename == __file__


def test_both_names_together_are_refused() -> None:
    with pytest.raises(TypeError, match="got both 'new' and its old name 'old'"):
        doubled(new=1, old=1)  # type: ignore[call-arg]  # the old name


def arguments_of(name: str) -> dict[str, Any]:
    if name.startswith("translate"):
        return {"model": "a2b", "images": np.zeros((1, 4, 3, 3), np.uint8)}
    return {"model": "dcgan", "seed": 0}


def value_of(chunk: Any) -> Any:
    return chunk.files if hasattr(chunk, "files") else chunk.images.tolist()


@pytest.mark.parametrize(("name", "old"), OLD_NAMES.items())
def test_the_blocking_client_takes_the_old_name_of_format(client: GanClient, name: str, old: str) -> None:
    call, wanted = getattr(client, name), "jpeg" if old == "file_format" else "float32"
    with pytest.warns(DeprecationWarning, match=f"{name}: '{old}' is now 'format'"):
        [chunk] = call(**arguments_of(name), **{old: wanted})
    [expected] = call(**arguments_of(name), format=wanted)
    assert value_of(chunk) == value_of(expected)
