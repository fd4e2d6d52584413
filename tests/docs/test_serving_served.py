"""The pages about the server against a real one: their examples, RPCs, metrics and instance groups."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format, message_factory
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.grpc import service_pb2

from ganserve.v1 import generator_pb2, model_control_pb2
from server.config import ServerConfig
from tests.docs.serving_page import COMMANDS, TEXT, blocks, code, names, spans, table
from tests.end_to_end.conftest import RunningServer, running_server
from tests.server.tiny_bundles import publish_tiny_bundle

ADDRESS = "127.0.0.1:50051"
METRICS_URL = "http://127.0.0.1:9095/metrics"
TIMEOUT_S = 30
SERVICES = {
    service.full_name: service
    for file in (generator_pb2, model_control_pb2, service_pb2, health_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
}
TABLES = {
    "ganserve.v1.Generator": "generator",
    "ganserve.v1.ModelControl": "model control",
    "inference.GRPCInferenceService": "inference",
}
METHODS = [(name, method) for name in TABLES for method in SERVICES[name].methods]
GRPCURL_LINES = [command for command in COMMANDS if command.startswith("grpcurl ")]
GRPCURL = [shlex.split(command.partition(" | ")[0])[1:] for command in GRPCURL_LINES]
SUFFIXES = ("", "_bucket", "_sum", "_count")
STANDARD = ("process_", "python_")  # metrics of the Prometheus client


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of the page's model, with model control enabled."""
    models = tmp_path_factory.mktemp("serving") / "models"
    for version in (1, 2):
        publish_tiny_bundle(models, name="dcgan", version=version, latent_dim=100, shape=(1, 32, 32))
    broken = publish_tiny_bundle(models, name="broken")  # so that its metric has a value
    (broken / "model.onnx").write_bytes(b"no graph")
    with running_server(models, "--model-control", "explicit", "--device", "cpu") as server:
        yield server


@pytest.fixture
def channel(running: RunningServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(running.address) as opened:
        yield opened


def call(channel: grpc.Channel, path: str, body: bytes) -> bytes:
    method: Any = channel.unary_unary(path)
    answer: bytes = method(body, timeout=TIMEOUT_S)
    return answer


@pytest.mark.parametrize("block", blocks("python"))
def test_the_python_examples_run(block: str, running: RunningServer) -> None:
    assert ADDRESS in block
    namespace: dict[str, Any] = {}
    exec(compile(block.replace(ADDRESS, running.address), "serving.md", "exec"), namespace)
    if "images" in block:
        assert namespace["images"].shape == (16, 32, 32, 1)
        assert namespace["images"].dtype == "uint8"


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("ganclient ")])
def test_the_client_commands_run(command: str, running: RunningServer, tmp_path: Path) -> None:
    words = shlex.split(command)[1:]
    environment = os.environ | {"GANSERVE_ADDRESS": running.address}
    done = subprocess.run(
        [sys.executable, "-m", "client", *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=TIMEOUT_S,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    if "--out" in words:
        assert (tmp_path / words[words.index("--out") + 1]).stat().st_size


def answer_to_grpcurl(words: list[str], channel: grpc.Channel) -> Message:
    """The message that grpcurl gets, and prints as JSON."""
    text = words[words.index("-d") + 1] if "-d" in words else "{}"
    service, _, name = words[-1].partition("/")
    method = SERVICES[service].methods_by_name[name]
    request = json_format.Parse(text, message_factory.GetMessageClass(method.input_type)())
    content = call(channel, f"/{service}/{name}", request.SerializeToString())
    assert content
    return message_factory.GetMessageClass(method.output_type).FromString(content)


@pytest.mark.parametrize("words", [words for words in GRPCURL if words[-1] != "list"], ids=lambda words: words[-1])
def test_the_server_answers_what_grpcurl_sends(words: list[str], channel: grpc.Channel) -> None:
    assert words[0] == "-plaintext"
    assert words[-2] == ADDRESS
    answer_to_grpcurl(words, channel)


@pytest.mark.skipif(not (shutil.which("jq") and shutil.which("base64")), reason="needs jq and base64")
def test_the_answer_of_grpcurl_becomes_an_image_file(channel: grpc.Channel, tmp_path: Path) -> None:
    (line,) = (line for line in GRPCURL_LINES if " | " in line)
    sent, _, decoding = line.partition(" | ")
    printed = json_format.MessageToJson(answer_to_grpcurl(shlex.split(sent)[1:], channel))
    subprocess.run(decoding, shell=True, input=printed, text=True, cwd=tmp_path, timeout=TIMEOUT_S, check=True)
    with Image.open(tmp_path / "image.png") as image:
        assert (image.format, image.size) == ("PNG", (32, 32))


def test_the_metrics_url_is_the_default() -> None:
    assert f"http://{ServerConfig.metrics_address}/metrics" == METRICS_URL
    assert f"curl {METRICS_URL}" in COMMANDS
    assert str(ServerConfig.address) == ADDRESS


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("curl ")])
def test_the_http_port_answers_the_curl_commands(command: str, running: RunningServer) -> None:
    _, url = shlex.split(command)
    base, _, path = url.rpartition("/")
    assert f"{base}/metrics" == METRICS_URL
    with urllib.request.urlopen(running.metrics_url.replace("/metrics", f"/{path}"), timeout=TIMEOUT_S) as response:
        assert response.status == 200


def test_the_page_lists_exactly_the_http_paths(running: RunningServer) -> None:
    base = running.metrics_url.removesuffix("/metrics")
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(base, timeout=TIMEOUT_S)
    with error.value as reply:
        assert re.findall(r"/[a-z0-9/]+", reply.read().decode()) == names("http paths")
    for path in names("http paths"):
        with urllib.request.urlopen(base + path, timeout=TIMEOUT_S) as response:
            assert response.status == 200


@pytest.mark.parametrize(("service", "method"), METHODS, ids=lambda value: getattr(value, "name", ""))
def test_the_page_lists_exactly_the_implemented_rpcs(service: str, method: Any, channel: grpc.Channel) -> None:
    path = f"/{service}/{method.name}"
    status = grpc.StatusCode.OK
    try:
        if method.client_streaming:
            stream: Any = channel.stream_stream(path)
            list(stream(iter([b""]), timeout=TIMEOUT_S))
        else:
            call(channel, path, b"")
    except grpc.RpcError as error:
        status = error.code()
    listed = names(TABLES[service])
    assert (status is not grpc.StatusCode.UNIMPLEMENTED) == (method.name in listed), status


@pytest.mark.parametrize(("service", "table_name"), TABLES.items())
def test_every_rpc_on_the_page_exists(service: str, table_name: str) -> None:
    assert set(names(table_name)) <= set(SERVICES[service].methods_by_name)


@pytest.fixture(scope="module")
def families(running: RunningServer) -> dict[str, Any]:
    """The metrics of a scrape after an answered and a refused request, by their names on the page."""
    good = generator_pb2.GenerateRequest(model="dcgan", seeded=generator_pb2.SeededLatents(seed=7, count=3))
    with grpc.insecure_channel(running.address) as channel:
        call(channel, "/ganserve.v1.Generator/Generate", good.SerializeToString())
        good.seeded.count = 0
        with pytest.raises(grpc.RpcError):
            call(channel, "/ganserve.v1.Generator/Generate", good.SerializeToString())
    with urllib.request.urlopen(running.metrics_url, timeout=TIMEOUT_S) as response:
        text = response.read().decode()
    found = text_string_to_metric_families(text)
    return {family.name + ("_total" if family.type == "counter" else ""): family for family in found}


def test_the_page_lists_exactly_the_metrics_of_a_scrape(families: dict[str, Any]) -> None:
    assert set(names("metrics")) == {name for name in families if not name.startswith(STANDARD)}


@pytest.mark.parametrize(
    ("name", "kind", "labels", "_"), table("metrics"), ids=[code(row[0]) for row in table("metrics")]
)
def test_the_page_has_the_type_and_labels_of_each_metric(
    name: str, kind: str, labels: str, _: str, families: dict[str, Any]
) -> None:
    family = families[code(name)]
    assert family.type == kind
    found = {label for sample in family.samples for label in sample.labels} - {"le"}
    assert family.samples
    assert found == set(spans(labels))


def test_every_metric_in_the_queries_exists(families: dict[str, Any]) -> None:
    known = {
        name + suffix
        for name, family in families.items()
        for suffix in SUFFIXES
        if not suffix or family.type == "histogram"
    }
    asked = set(re.findall(r"\bganserve_\w+", TEXT))
    assert asked <= known


def test_the_page_has_the_phases_reasons_and_instance_groups_of_a_scrape(families: dict[str, Any]) -> None:
    def values(family: str, label: str) -> set[str]:
        return {sample.labels[label] for sample in families[family].samples}

    assert values("ganserve_phase_duration_seconds", "phase") == set(names("phases"))
    assert values("ganserve_rejections_total", "reason") <= {code(reason) for _, reason, *_ in table("status codes")}
    assert values("ganserve_engine_busy_core_seconds_total", "instance_group") <= set(names("instance groups"))
