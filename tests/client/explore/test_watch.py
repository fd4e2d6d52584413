from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from client import GanClient
from client.errors import ServerUnreachable, UnknownModel
from client.explore.watch import Watch, gone, key_of
from tests.client.fake_server import FakeServer, model, translator


@pytest.fixture
def watch(server: FakeServer) -> Iterator[Watch]:
    with GanClient(server.address, timeout_s=5) as client:
        yield Watch(client, max_age_s=1000)


def test_one_response_serves_many_snapshots(server: FakeServer, watch: Watch) -> None:
    keys = [[key_of(found) for found in watch.snapshot().models] for _ in range(5)]
    assert keys == [["a2b:5", "dcgan:3"]] * 5
    assert server.list_calls == 1
    watch.snapshot(now=True)
    assert server.list_calls == 2
    watch.forget()
    server.models = [model("new", 1)]
    assert [key_of(found) for found in watch.snapshot().models] == ["new:1"]
    watch.snapshot()
    assert server.list_calls == 3


def test_one_thread_waits_for_the_server_while_others_use_the_last_snapshot(
    server: FakeServer, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking, may_answer = threading.Event(), threading.Event()
    models = GanClient.models

    def slow_models(client: GanClient) -> object:
        asking.set()
        assert may_answer.wait(10)
        return models(client)

    watch.snapshot()
    watch.failed(ServerUnreachable("lost"))
    monkeypatch.setattr(GanClient, "models", slow_models)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(watch.snapshot)
        assert asking.wait(10)
        assert watch.snapshot().trouble == "The server is gone: lost. This page continues when it is back."
        watch.forget()
        patient = pool.submit(watch.snapshot)
        may_answer.set()
        assert (first.result(10).trouble, patient.result(10).trouble) == ("", "")
    assert server.list_calls == 3  # the response in flight does not count after `forget`


def test_models_for_newer_clients_are_left_out(server: FakeServer, watch: Watch) -> None:
    server.models = [model(), model("sounds", 2, task=7)]
    assert [key_of(found) for found in watch.snapshot().models] == ["dcgan:3"]


def test_a_newly_loaded_model_is_found(server: FakeServer, watch: Watch) -> None:
    watch.snapshot()
    server.models.append(model("new", 1))
    assert watch.find("new:1").name == "new"


def test_the_error_for_a_removed_model_lists_the_served_ones(server: FakeServer, watch: Watch) -> None:
    with pytest.raises(UnknownModel, match=r"^dcgan:1 is no longer served; pick another model: dcgan:3$"):
        watch.find("dcgan:1")
    server.models = []
    with pytest.raises(UnknownModel, match="and the server has no other models"):
        watch.find("dcgan:1")
    with pytest.raises(UnknownModel, match="no model is picked"):
        watch.find("")
    assert gone("x:1", watch.snapshot().models).startswith("x:1 is no longer served")


def test_an_outage_is_counted_once(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone_models(_client: GanClient) -> object:
        raise ServerUnreachable("no server is ready")

    with GanClient(server.address, timeout_s=5) as client:
        watch = Watch(client, max_age_s=0, start_command="python -m server")
        assert watch.snapshot().troubles == 0
        with monkeypatch.context() as patch:
            patch.setattr(GanClient, "models", gone_models)
            for _ in range(2):
                seen = watch.snapshot()
                assert seen.trouble.startswith("The server is gone: no server is ready.")
                assert (seen.troubles, seen.remedy) == (1, "python -m server")
                assert [key_of(found) for found in seen.models] == ["a2b:5", "dcgan:3"]  # those it had
            with pytest.raises(ServerUnreachable, match="The server is gone"):
                watch.find("dcgan:3")
        assert watch.snapshot() == watch.snapshot()
        assert (watch.snapshot().trouble, watch.snapshot().troubles) == ("", 1)


def test_a_reported_failure_counts_and_triggers_a_new_snapshot(server: FakeServer, watch: Watch) -> None:
    watch.snapshot()
    assert watch.failed(ServerUnreachable("no server")).trouble.startswith("The server is gone: no server")
    assert (watch.snapshot().trouble, watch.snapshot().troubles) == ("", 1)
    assert server.list_calls == 2


def test_an_invalid_response_is_not_reported_as_an_outage(server: FakeServer, watch: Watch) -> None:
    server.models = [model(), translator(latent_dim=-4)]
    assert watch.snapshot().trouble.startswith("The server does not list its models: ")
