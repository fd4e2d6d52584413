"""Tests for server.rest.inference: the Open Inference Protocol over HTTP, with curl's and Triton's requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from server.app import Server
from tests.server.rest.conftest import Ask, ask_server, error_of
from tests.server.tiny_bundles import tiny_images, tiny_pixels

LATENTS = np.random.default_rng(3).standard_normal((2, 4), dtype=np.float32)
INPUT = {"name": "latents", "shape": [2, 4], "datatype": "FP32", "data": LATENTS.tolist()}


async def test_json_in_gives_json_out(ask: Ask) -> None:
    reply = await ask("/v2/models/tiny/infer", json.dumps({"id": "mine", "inputs": [INPUT]}).encode())
    assert reply.status == 200
    body = json.loads(reply.body)
    assert (body["model_name"], body["model_version"], body["id"]) == ("tiny", "1", "mine")
    arrays = {output["name"]: np.reshape(output["data"], output["shape"]) for output in body["outputs"]}
    np.testing.assert_array_equal(arrays["pixels"], tiny_pixels(LATENTS))
    np.testing.assert_allclose(arrays["images"], tiny_images(LATENTS), atol=1e-6)


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("/v2", {"name": "ganserve"}),
        ("/v2/models/tiny", {"name": "tiny", "versions": ["1"]}),
        ("/v2/models/tiny/versions/1", {"name": "tiny"}),
        ("/v2/models/tiny/ready", {"name": "tiny", "ready": True}),
        ("/v2/models/tiny/versions/1/ready", {"ready": True}),
        ("/v2/models/tiny/config", {"name": "tiny", "max_batch_size": 64}),
    ],
)
async def test_what_is_served_is_described(ask: Ask, path: str, known: dict[str, Any]) -> None:
    reply = await ask(path)
    assert reply.status == 200
    assert json.loads(reply.body).items() >= known.items()


@pytest.mark.parametrize("model", ["tiny/versions/2", "other"])
async def test_what_is_not_served_is_not_ready_and_not_found(ask: Ask, model: str) -> None:
    assert (await ask(f"/v2/models/{model}/ready")).status == 503
    for path in (f"/v2/models/{model}", f"/v2/models/{model}/config", f"/v2/models/{model}/stats"):
        reply = await ask(path)
        assert reply.status == 404
        assert "tiny" in error_of(reply)


async def test_statistics_count_the_requests_of_both_protocols(ask: Ask) -> None:
    await ask("/v2/models/tiny/infer", json.dumps({"inputs": [INPUT]}).encode())
    for path in ("/v2/models/tiny/stats", "/v2/models/tiny/versions/1/stats", "/v2/models/stats"):
        stats = json.loads((await ask(path)).body)["model_stats"]
        assert next(entry for entry in stats if entry["name"] == "tiny")["inference_count"] == 2


async def test_models_are_unloaded_and_loaded(ask: Ask) -> None:
    assert (await ask("/v2/repository/models/tiny/unload", b"")).status == 200
    listed = json.loads((await ask("/v2/repository/index", b"{}")).body)
    assert {entry["name"]: entry["state"] for entry in listed} == {"tiny": "UNAVAILABLE", "tiny-a2b": "READY"}
    ready = json.loads((await ask("/v2/repository/index", b'{"ready": true}')).body)
    assert [entry["name"] for entry in ready] == ["tiny-a2b"]
    assert (await ask("/v2/repository/models/tiny/load", b"{}")).status == 200
    assert (await ask("/v2/models/tiny/ready")).status == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v2/models/tiny/infer", b"{", 400, "the body is not the JSON"),
        ("/v2/models/other/infer", b'{"inputs": []}', 404, "no model 'other'"),
        ("/v2/models/tiny/infer", b'{"inputs": []}', 400, "inputs has 0 tensors"),
        ("/v2/repository/index", b'{"ready": 1}', 400, "ready is not true or false"),
        ("/v2/repository/index", b"[]", 400, "the body is not the JSON"),
        ("/v2/repository/models/tiny/load", b'{"parameters": []}', 400, "parameters is not an object"),
        ("/v2/repository/models/tiny/load", b'{"parameters": {"config": "{}"}}', 400, "parameter 'config'"),
        ("/v2/repository/models/tiny/unload", b'{"parameters": {"unload_dependents": true}}', 400, "dependents"),
        ("/v2/repository/models/other/load", b"", 404, "other"),
    ],
)
async def test_a_wrong_request_is_refused(ask: Ask, path: str, body: bytes, status: int, message: str) -> None:
    reply = await ask(path, body)
    assert (reply.status, message in error_of(reply)) == (status, True), reply


async def test_web_pages_of_elsewhere_cannot_load_models(ask: Ask) -> None:
    reply = await ask("/v2/repository/models/tiny/unload", b"", headers={"Origin": "http://elsewhere"})
    assert reply.status == 403
    assert "web pages" in error_of(reply)


async def test_without_model_control_models_stay(start_server: Callable[..., Any]) -> None:
    from tests.server.rest.conftest import ANY_PORT

    server: Server = await start_server(http_address=ANY_PORT)
    reply = await ask_server(server, "/v2/repository/models/tiny/unload", b"")
    assert reply.status == 403
    assert "--model-control" in error_of(reply)


def ask_as_triton(url: str) -> None:
    http = pytest.importorskip("tritonclient.http", exc_type=ImportError)
    client = http.InferenceServerClient(url)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny", "1")
    assert not client.is_model_ready("other")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_metadata("tiny")["inputs"] == [{"name": "latents", "datatype": "FP32", "shape": [-1, 4]}]
    assert client.get_model_config("tiny")["name"] == "tiny"
    for binary_input in (True, False):
        rows = http.InferInput("latents", [2, 4], "FP32")
        rows.set_data_from_numpy(LATENTS, binary_data=binary_input)
        for binary_output in (True, False, None):
            wanted = None
            if binary_output is not None:
                wanted = [http.InferRequestedOutput(name, binary_data=binary_output) for name in ("images", "pixels")]
            result = client.infer("tiny", [rows], outputs=wanted, request_id="mine", priority=1, timeout=60_000_000)
            np.testing.assert_array_equal(result.as_numpy("pixels"), tiny_pixels(LATENTS))
            np.testing.assert_allclose(result.as_numpy("images"), tiny_images(LATENTS), atol=1e-6)
            assert result.get_response()["id"] == "mine"
    [entry] = client.get_inference_statistics("tiny")["model_stats"]
    assert entry["inference_count"] == 12
    with pytest.raises(Exception, match="no model 'other' is served"):
        client.infer("other", [rows])
    client.unload_model("tiny")
    assert {entry["name"]: entry["state"] for entry in client.get_model_repository_index()}["tiny"] == "UNAVAILABLE"
    client.load_model("tiny")
    assert client.is_model_ready("tiny")
    client.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:greenlet")
async def test_tritons_client_works_unchanged(api: Server) -> None:
    await asyncio.to_thread(ask_as_triton, str(api.http_address))
