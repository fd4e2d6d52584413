from __future__ import annotations

import grpc
import pytest
from grpc_health.v1 import health_pb2

from client import GanClient, InvalidRequest, ServerUnreachable, UnknownModel
from ganserve.v1 import generator_pb2 as pb
from tests.client.fake_server import FakeServer, model, translator
from tests.client.sdk.test_client_translate import random_images

Code = grpc.StatusCode


def test_models_are_looked_up_once_and_again_after_an_error(server: FakeServer, client: GanClient) -> None:
    client.generate("dcgan", count=2)
    client.generate("dcgan", count=2)
    assert server.list_calls == 1
    server.failures.append((Code.INVALID_ARGUMENT, "count: at most 100"))
    with pytest.raises(InvalidRequest):
        client.generate("dcgan", count=200)
    server.models = [model(max_request_rows=100)]  # restarted with another limit
    assert len(client.generate("dcgan", count=200)) == 200
    assert server.list_calls == 2


def test_models_returns_the_servers_list(server: FakeServer, client: GanClient) -> None:
    server.models = [model(), model("wgan-gp", 1, kind="wgan-gp", device="cuda:0", channels=3)]
    first, second = client.models()
    assert (first.name, first.version, first.latent_dim, first.max_request_rows) == ("dcgan", 3, 6, 1024)
    assert (second.name, second.kind, second.device, second.channels) == ("wgan-gp", "wgan-gp", "cuda:0", 3)


def test_an_unknown_models_error_names_the_served_ones(client: GanClient) -> None:
    with pytest.raises(UnknownModel, match="no model 'nope' is served; served models: a2b, dcgan"):
        client.generate("nope", count=2000)


@pytest.mark.parametrize("name", ["", "a\nb", "\udcff", None, 3])
def test_a_model_must_be_a_name(client: GanClient, name: str) -> None:
    with pytest.raises(InvalidRequest, match="model: must be a name"):
        client.generate(name)


@pytest.mark.parametrize("version", [0, -1, 2**63, 1.5, "1", "", "a b", "1a"])
def test_a_version_must_be_a_positive_integer_or_a_label(client: GanClient, version: int) -> None:
    with pytest.raises(InvalidRequest, match=r"version: must be a (whole )?number"):
        client.generate("dcgan", version=version)


def test_info_asks_the_server_every_time(server: FakeServer, client: GanClient) -> None:
    server.models = [model(version=1, device="cpu"), model(version=2, device="cuda:0")]
    assert (client.info("dcgan").version, client.info("dcgan").device) == (2, "cuda:0")
    assert client.info("dcgan", 1).device == "cpu"
    server.models = [model(version=1, device="cuda:1")]
    assert client.info("dcgan").device == "cuda:1"
    with pytest.raises(UnknownModel, match="version 2 of 'dcgan' is not served; served versions: 1"):
        client.info("dcgan", 2)
    with pytest.raises(InvalidRequest, match="model: must be a name"):
        client.info("")


def test_health_covers_the_server_and_its_models(server: FakeServer, client: GanClient) -> None:
    assert client.healthy()
    assert client.healthy("dcgan")
    assert not client.healthy("nope")
    server.health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    assert not client.healthy()
    assert not client.healthy("dcgan")


def test_health_of_an_unreachable_server_is_an_error_without_retries() -> None:
    with FakeServer().serve() as stopped:
        address = stopped.address
    with GanClient(address, timeout_s=5) as client, pytest.raises(ServerUnreachable, match=address):
        client.healthy()


def test_each_call_refuses_models_of_the_other_task_and_names_the_right_call(
    server: FakeServer, client: GanClient
) -> None:
    with pytest.raises(InvalidRequest, match=r"model: 'a2b' turns images .*use GanClient\.translate, or ganclient tra"):
        client.generate("a2b")
    with pytest.raises(InvalidRequest, match=r"model: 'dcgan' makes images .*use GanClient\.generate, or ganclient gr"):
        client.translate("dcgan", random_images(1))
    assert (server.requests, server.translations) == ([], [])


def test_unknown_models_and_versions_name_the_served_ones(server: FakeServer, client: GanClient) -> None:
    with pytest.raises(UnknownModel, match="no model 'b2a' is served; served models: a2b, dcgan"):
        client.translate("b2a", random_images(1))
    with pytest.raises(UnknownModel, match="version 9 of 'a2b' is not served; served versions: 5"):
        client.translate("a2b", random_images(1), version=9)
    server.models = []
    with pytest.raises(UnknownModel, match=rf"is served at {server.address}, which serves no models"):
        client.translate("b2a", random_images(1))


def test_a_model_of_an_unknown_task_does_not_affect_others(server: FakeServer, client: GanClient) -> None:
    server.models = [model("sounds", 2, task=7), model(), translator()]
    assert (len(client.translate("a2b", random_images(1))), len(client.generate("dcgan"))) == (1, 1)
    with pytest.raises(InvalidRequest, match="model: 'sounds' has a task that this client does not know; use a newer"):
        client.generate("sounds")
    with pytest.raises(InvalidRequest, match="model: 'sounds' has a task that this client does not know; use a newer"):
        client.translate("sounds", random_images(1))


def test_the_sizes_of_a_translator_are_listed(server: FakeServer, client: GanClient) -> None:
    server.models = [model(), translator(input_image=pb.ImageShape(channels=1, height=8, width=9))]
    generator, other = client.models()
    assert (generator.task, generator.input_height) == ("generate", 0)
    assert (other.task, other.latent_dim) == ("translate", 0)
    assert (other.input_channels, other.input_height, other.input_width) == (1, 8, 9)


def test_without_a_version_the_default_one_is_used(server: FakeServer, client: GanClient) -> None:
    server.models = [model(version=1, device="old", is_default=True), model(version=2)]
    assert client.info("dcgan").device == "old"
    server.models = [model(version=1, device="old"), model(version=2, device="new")]  # an older server
    assert client.info("dcgan").device == "new"


def test_a_label_finds_its_version_and_is_sent_to_the_server(server: FakeServer, client: GanClient) -> None:
    server.models = [model(version=1, version_labels=["stable"]), model(version=2, is_default=True)]
    assert client.info("dcgan", "stable").version == 1
    client.generate("dcgan", count=2, version="stable")
    assert (server.requests[0].version, server.requests[0].version_label) == (0, "stable")
    with pytest.raises(UnknownModel, match="no served version of 'dcgan' has the label 'canary'; its labels: stable"):
        client.generate("dcgan", version="canary")
    server.models = [model(version=1)]
    with pytest.raises(UnknownModel, match="no served version of 'dcgan' has the label 'stable'; it has none"):
        client.info("dcgan", "stable")
