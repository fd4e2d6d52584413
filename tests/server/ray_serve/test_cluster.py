"""Tries the application on a real Ray cluster of two nodes, on this machine: `make test-ray`.

Ray's agents give up after 15 s on a busy machine, so nothing else should run meanwhile.
"""

from __future__ import annotations

import copy
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
import yaml
from onnx import numpy_helper

from client import GanClient
from ganserve.v1 import generator_pb2 as pb
from tests.server.endless_graphs import loop_forever
from tests.server.tiny_bundles import LATENT_DIM, publish_tiny_bundle, tiny_pixels

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]

ROOT = Path(__file__).parents[3]
GENERATE = "/ganserve.v1.Generator/Generate"
PORT = 19300
CALLERS = 4


class App:
    """The application of deploy/ray/serve_config.yaml, on a cluster with two nodes of one core each.

    Both nodes have the same address, so that only the first one has a proxy.
    """

    def __init__(self, models: Path, access_log: Path) -> None:
        from ray.cluster_utils import Cluster
        from ray.serve._private.api import serve_start

        self.address = f"127.0.0.1:{PORT}"
        self.config = yaml.safe_load((ROOT / "deploy" / "ray" / "serve_config.yaml").read_text())
        self.config["proxy_location"] = "HeadOnly"
        self.config["grpc_options"]["port"] = PORT
        [application] = self.config["applications"]
        flags = {"models": str(models), "access-log": str(access_log)}
        application["args"] = {**flags, "cores": 1, "device": "cpu", "max-queue-rows": 512}
        [self.deployment] = application["deployments"]
        self.deployment["ray_actor_options"] = {"num_cpus": 0.4}
        self.autoscaling = self.deployment.pop("autoscaling_config")
        node = {"num_cpus": 1, "object_store_memory": 100_000_000}
        self.cluster = Cluster(initialize_head=True, connect=True, head_node_args={**node, "include_dashboard": False})
        self.second_node = self.cluster.add_node(**node)
        self.client = serve_start(
            http_options={"host": "127.0.0.1", "port": PORT + 1},
            grpc_options=self.config["grpc_options"],
            proxy_location="HeadOnly",
        )

    def deploy(self, **changes: Any) -> None:
        """Changes the deployment and waits until it runs."""
        from ray.serve.schema import ServeDeploySchema

        self.deployment.update(changes)
        self.client.deploy_apps(ServeDeploySchema.model_validate(copy.deepcopy(self.config)))
        wanted = self.deployment.get("num_replicas")
        wait_until(lambda: self.state == "RUNNING" and wanted in (None, len(self.replicas)), 90)

    @property
    def state(self) -> str:
        from ray import serve

        application = serve.status().applications.get("ganserve")
        return "" if application is None else str(application.status.value)

    @property
    def replicas(self) -> dict[int, str]:
        """The replicas that run: their processes, and the ids of their nodes."""
        details = self.client.get_serve_details()["applications"]["ganserve"]["deployments"]["Ganserve"]
        return {replica["pid"]: replica["node_id"] for replica in details["replicas"] if replica["state"] == "RUNNING"}

    def close(self) -> None:
        import ray
        from ray import serve

        serve.shutdown()
        ray.shutdown()
        self.cluster.shutdown()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("models")
    publish_tiny_bundle(repository)
    publish_tiny_bundle(repository, "slow", change_graph=_slow_down)
    return repository


def _slow_down(model: onnx.ModelProto) -> None:
    """Makes every run take some 10 ms, however many rows it computes."""
    loop_forever(model)
    [rounds] = [value for value in model.graph.initializer if value.name == "rounds"]
    rounds.CopyFrom(numpy_helper.from_array(np.array(20_000), "rounds"))


@pytest.fixture(scope="module")
def access_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs") / "access.log"


@pytest.fixture(scope="module")
def app(models: Path, access_log: Path) -> Iterator[App]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")  # no token in the user's home
        app = App(models, access_log)
        try:
            app.deploy(num_replicas=1)
            yield app
        finally:
            app.close()


@pytest.fixture
def channel(app: App) -> Iterator[Any]:
    with grpc.insecure_channel(app.address) as channel:
        yield channel


def wait_until(is_true: Callable[[], bool], limit_s: float) -> None:
    end_s = time.monotonic() + limit_s
    while not is_true():
        assert time.monotonic() < end_s, "it took too long"
        time.sleep(0.1)


@contextmanager
def under_load(app: App, model: str = "tiny", rows: int = 2) -> Iterator[Counter[str]]:
    """Calls GanClient from several threads meanwhile; counts the answers and the errors."""
    outcomes: Counter[str] = Counter()
    ended = threading.Event()

    def call(caller: int) -> None:
        with GanClient(app.address) as client:
            seed = 1000 * caller
            while not ended.is_set():
                seed += 1
                try:
                    assert len(client.generate(model, seed=seed, count=rows)) == rows
                    outcomes["ok"] += 1
                except Exception as error:  # noqa: BLE001 - whatever it is, a request is lost
                    outcomes[f"lost: {error}"] += 1

    callers = [threading.Thread(target=call, args=(caller,)) for caller in range(CALLERS)]
    for thread in callers:
        thread.start()
    try:
        wait_until(lambda: outcomes["ok"] > 20, 30)
        yield outcomes
        answered = outcomes["ok"]
        wait_until(lambda: outcomes["ok"] > answered + 20, 60)
    finally:
        ended.set()
        for thread in callers:
            thread.join()


def seeded(model: str, rows: int) -> bytes:
    return pb.GenerateRequest(model=model, seeded=pb.SeededLatents(count=rows)).SerializeToString()


def outcome_of(future: Any) -> tuple[grpc.StatusCode, dict[str, str]]:
    """Waits for a call; returns its status and trailing metadata."""
    return future.code(), dict(future.trailing_metadata())


def lost(outcomes: Counter[str]) -> list[str]:
    return [outcome for outcome in outcomes if outcome.startswith("lost")]


def test_gan_client_gets_the_images_of_a_server(app: App) -> None:
    latents = np.random.default_rng(0).standard_normal((3, LATENT_DIM), dtype=np.float32)
    with GanClient(app.address) as client:
        assert client.healthy()
        np.testing.assert_allclose(client.generate("tiny", latents), tiny_pixels(latents), atol=1)


def test_triton_client_gets_them_too(app: App) -> None:
    import tritonclient.grpc as triton

    latents = np.zeros((2, LATENT_DIM), np.float32)
    client = triton.InferenceServerClient(app.address)
    tensor = triton.InferInput("latents", list(latents.shape), "FP32")
    tensor.set_data_from_numpy(latents)
    assert client.is_server_ready()
    assert client.infer("tiny", [tensor]).as_numpy("pixels").shape[0] == 2


@pytest.mark.parametrize(
    ("model", "rows", "code"),
    [("other", 1, grpc.StatusCode.NOT_FOUND), ("tiny", 5000, grpc.StatusCode.INVALID_ARGUMENT)],
)
def test_statuses_are_those_of_a_server(channel: Any, model: str, rows: int, code: grpc.StatusCode) -> None:
    assert outcome_of(channel.unary_unary(GENERATE).future(seeded(model, rows), timeout=10))[0] is code


def test_a_full_queue_tells_when_to_retry(channel: Any) -> None:
    call = channel.unary_unary(GENERATE)
    outcomes = [outcome_of(future) for future in [call.future(seeded("slow", 500), timeout=30) for _ in range(8)]]
    refused = [metadata for code, metadata in outcomes if code is grpc.StatusCode.RESOURCE_EXHAUSTED]
    assert refused
    assert all("grpc-retry-pushback-ms" in metadata for metadata in refused)


def test_a_replica_knows_the_deadline(channel: Any, access_log: Path) -> None:
    code, _ = outcome_of(channel.unary_unary(GENERATE).future(seeded("slow", 500), timeout=0.05))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    wait_until(lambda: "DEADLINE_EXCEEDED" in access_log.read_text(), 10)


def test_it_grows_to_four_replicas_on_both_nodes(app: App) -> None:
    for replicas in (2, 4):
        with under_load(app) as outcomes:
            app.deploy(num_replicas=replicas)
        assert not lost(outcomes), outcomes
    assert len(set(app.replicas.values())) == 2


def test_a_killed_replica_loses_nothing(app: App) -> None:
    victim = next(iter(app.replicas))
    with under_load(app) as outcomes:
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: victim not in app.replicas and len(app.replicas) == 4, 60)
    assert not lost(outcomes), outcomes


def test_a_rolling_update_loses_nothing_and_starts_no_process(app: App, models: Path) -> None:
    publish_tiny_bundle(models, version=2, seed=1)
    before = app.replicas.keys()
    with under_load(app) as outcomes:
        app.deploy(user_config={"versions": {"tiny": 2}})
    assert not lost(outcomes), outcomes
    assert app.replicas.keys() == before
    with GanClient(app.address) as client:
        assert {client.info("tiny").version for _ in range(20)} == {2}


def test_a_killed_node_loses_nothing(app: App) -> None:
    assert len(set(app.replicas.values())) == 2
    with under_load(app) as outcomes:
        app.cluster.remove_node(app.second_node, allow_graceful=False)
        wait_until(lambda: len(set(app.replicas.values())) == 1, 60)
    assert not lost(outcomes), outcomes


def test_idle_engines_stop_replicas_and_rows_that_wait_start_them(app: App) -> None:
    del app.deployment["num_replicas"]
    limits = {"min_replicas": 1, "max_replicas": 2, "upscale_delay_s": 1, "downscale_delay_s": 2}
    app.deploy(autoscaling_config={**app.autoscaling, **limits, "metrics_interval_s": 0.5, "look_back_period_s": 2})
    wait_until(lambda: len(app.replicas) == 1, 60)
    with under_load(app, "slow", rows=64):
        wait_until(lambda: len(app.replicas) == 2, 60)
