"""The files in deploy/proxy/, with the real programs in front of real servers."""

from __future__ import annotations

import contextlib
import functools
import re
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import tritonclient.grpc as triton
import trustme
import yaml

from benchmarks.rolling_restart import Replica, Tally
from client import GanClient, TlsOptions
from server.config import ServerConfig
from tests.deploy import manifests, proxies
from tests.deploy.manifests import DEPLOY
from tests.deploy.proxies import KINDS, Front, Kind, Proxy
from tests.docs.test_operations import free_ports
from tests.server.tiny_bundles import publish_tiny_bundle

TOKEN: Final = "a-token-of-the-test"
WIDE: Final = ServerConfig.max_latent_bytes_per_row // 4  # latents in float32 of the largest row
REQUEST_TIMEOUT_S: Final = 60.0
CALLERS: Final = 8
CONFIG: Final = ServerConfig()
ENVOY: Final = manifests.load("proxy/envoy.yaml")
NGINX: Final = (DEPLOY / "proxy" / "nginx.conf").read_text()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The files of a certificate for this machine, which vouches for itself, and of its key."""
    folder = tmp_path_factory.mktemp("certificate")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    chain, key = folder / "server.pem", folder / "server.key"
    chain.write_bytes(b"".join(blob.bytes() for blob in (*issued.cert_chain_pems, authority.cert_pem)))
    issued.private_key_pem.write_to_path(str(key))
    return chain, key


def front_of(certificate: tuple[Path, Path], *servers: str) -> Front:
    return Front(free_ports(1)[0], *certificate, servers)


def test_envoy_accepts_its_file_and_refuses_a_broken_copy(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    config = proxies.envoy_config(front_of(certificate, "127.0.0.1:50051"))
    file = tmp_path / "envoy.yaml"
    for damage, code in (({}, 0), ({"lb_polici": "ROUND_ROBIN"}, 1)):
        config["static_resources"]["clusters"][0] |= damage
        file.write_text(yaml.safe_dump(config))
        command = [proxies.installed("envoy"), "--mode", "validate", "-c", str(file), "--log-level", "error"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr


def test_nginx_accepts_its_file_and_refuses_a_broken_copy(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    text = proxies.nginx_config(front_of(certificate, "127.0.0.1:50051"), tmp_path)
    file = tmp_path / "nginx.conf"
    for content, code in ((text, 0), (text.replace("grpc_read_timeout", "grpc_reed_timeout"), 1)):
        file.write_text(content)
        command = [proxies.installed("nginx"), "-t", "-c", str(file), "-p", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr


def test_limits_of_the_proxies_fit_the_limits_of_the_server() -> None:
    manager = ENVOY["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    streams = CONFIG.max_concurrent_requests_per_connection
    assert manager["http2_protocol_options"]["max_concurrent_streams"] == streams
    assert f"http2_max_concurrent_streams {streams};" in NGINX
    [cluster] = ENVOY["static_resources"]["clusters"]
    [thresholds] = cluster["circuit_breakers"]["thresholds"]
    assert thresholds["max_requests"] == thresholds["max_pending_requests"] == CONFIG.max_concurrent_requests
    [monitor] = ENVOY["overload_manager"]["resource_monitors"]
    assert monitor["typed_config"]["max_active_downstream_connections"] == CONFIG.max_connections
    [body_mib] = re.findall(r"client_max_body_size (\d+)m;", NGINX)
    assert CONFIG.max_message_bytes <= int(body_mib) << 20 < CONFIG.max_message_bytes + (2 << 20)
    [workers] = re.findall(r"worker_connections (\d+);", NGINX)
    assert int(workers) >= 2 * CONFIG.max_concurrent_requests  # one from the client, one to a server


def test_envoy_leaves_a_server_within_its_lame_duck() -> None:
    [check] = ENVOY["static_resources"]["clusters"][0]["health_checks"]
    interval_s, timeout_s = (float(check[name].removesuffix("s")) for name in ("interval", "timeout"))
    compose = manifests.server_flags(manifests.load("compose.yaml")["services"]["ganserve"]["command"])
    assert check["no_traffic_interval"] == check["interval"]
    for lame_duck_s in (CONFIG.lame_duck_s, compose["lame_duck_s"]):
        assert check["unhealthy_threshold"] * interval_s <= lame_duck_s
        assert timeout_s <= lame_duck_s


def test_the_paths_in_the_files_are_those_of_the_server() -> None:
    from grpc_health.v1 import health_pb2
    from tritonclient.grpc import service_pb2

    stream = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name["ModelStreamInfer"]
    health = health_pb2.DESCRIPTOR.services_by_name["Health"]
    assert f"location = /{stream.containing_service.full_name}/{stream.name} " in NGINX
    assert f"location /{health.full_name}/ " in NGINX
    assert f"prefix: /{health.full_name}/" in (DEPLOY / "proxy" / "envoy.yaml").read_text()


def test_compose_gives_envoy_what_its_file_names() -> None:
    compose = manifests.load("compose.yaml")
    service = compose["services"]["envoy"]
    [listener] = ENVOY["static_resources"]["listeners"]
    port = listener["address"]["socket_address"]["port_value"]
    assert service["ports"] == [f"{port}:{port}"]
    text = (DEPLOY / "proxy" / "envoy.yaml").read_text()
    assert set(re.findall(r"/run/secrets/([a-z.]+)", text)) == set(service["secrets"]) <= compose["secrets"].keys()
    endpoint = ENVOY["static_resources"]["clusters"][0]["load_assignment"]["endpoints"][0]["lb_endpoints"][0]
    address = endpoint["endpoint"]["address"]["socket_address"]
    assert address == {"address": "ganserve", "port_value": CONFIG.address.port}


class Site:
    """Two servers, a proxy in front of them, and callers that know neither."""

    def __init__(self, kind: Kind, folder: Path, certificate: tuple[Path, Path]) -> None:
        self.kind = kind
        self.certificate = certificate[0]
        publish_tiny_bundle(folder / "models", name="tiny", latent_dim=WIDE)
        (folder / "tokens").write_text(f"{TOKEN}\n")
        self._models, self._flags = folder / "models", ("--token-file", str(folder / "tokens"), "--device", "cpu")
        ports = free_ports(4)
        self._ports = [(ports[0], ports[1]), (ports[2], ports[3])]  # for gRPC and for HTTP
        self.replicas = [self._replica(index) for index in range(2)]
        front = front_of(certificate, *(replica.address for replica in self.replicas))
        self.proxy = Proxy(kind, front, folder)

    def _replica(self, index: int) -> Replica:
        return Replica(self._models, *self._ports[index], self._flags)

    def kill(self, index: int) -> None:
        """Kills a server in the middle of its requests."""
        self.replicas[index].kill()

    def revive(self, index: int) -> None:
        """Starts a killed server again."""
        self.replicas[index] = self._replica(index)

    def answered(self) -> list[float]:
        """Requests that each server has answered with images."""
        return [_answered(port) for _, port in self._ports]

    def until_shared(self) -> None:
        """Waits until the proxy sends requests to both servers again."""
        before, deadline_s = self.answered(), time.monotonic() + REQUEST_TIMEOUT_S
        while not all(now > then + 10 for now, then in zip(self.answered(), before, strict=True)):
            assert time.monotonic() < deadline_s, "the proxy does not return to a server that serves again"
            time.sleep(0.1)

    def close(self) -> None:
        self.proxy.close()
        for replica in self.replicas:
            replica.kill()

    @contextlib.contextmanager
    def triton(self) -> Iterator[triton.InferenceServerClient]:
        """Triton's client, which repeats nothing."""
        with triton.InferenceServerClient(
            self.proxy.address, ssl=True, root_certificates=str(self.certificate)
        ) as client:
            yield client

    def gan_client(self, token: str | None = TOKEN) -> GanClient:
        """Our client, which repeats what is safe to repeat."""
        tls = TlsOptions(root_certificates=self.certificate)
        return GanClient(self.proxy.address, tls=tls, token=token, timeout_s=REQUEST_TIMEOUT_S)


def _answered(http_port: int) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{http_port}/metrics", timeout=REQUEST_TIMEOUT_S) as page:
        lines = page.read().decode().splitlines()
    return sum(
        float(line.split()[-1]) for line in lines if line.startswith("ganserve_requests_total{") and '"OK"' in line
    )


@pytest.fixture(scope="module", params=KINDS)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificate: tuple[Path, Path]
) -> Iterator[Site]:
    proxies.installed(request.param)
    site = Site(request.param, tmp_path_factory.mktemp(request.param), certificate)
    try:
        site.proxy.wait()
        yield site
    finally:
        site.close()


HEADERS: Final = {"authorization": f"Bearer {TOKEN}"}
WANTED: Final = [triton.InferRequestedOutput("pixels")]


def latents(rows: int) -> list[Any]:
    of = triton.InferInput("latents", [rows, WIDE], "FP32")
    of.set_data_from_numpy(np.zeros((rows, WIDE), np.float32))
    return [of]


def send(client: triton.InferenceServerClient, rows: int = 4) -> int:
    answer = client.infer("tiny", latents(rows), outputs=WANTED, headers=HEADERS, client_timeout=REQUEST_TIMEOUT_S)
    return len(answer.as_numpy("pixels"))


@pytest.mark.slow
def test_requests_alternate_between_the_servers(site: Site) -> None:
    before = site.answered()
    with site.triton() as client:
        assert [send(client) for _ in range(100)] == [4] * 100
    shares = [after - earlier for after, earlier in zip(site.answered(), before, strict=True)]
    assert sum(shares) == 100
    assert min(shares) >= 40


@pytest.mark.slow
@pytest.mark.parametrize("token", [None, "wrong"])
def test_calls_without_a_valid_token_are_refused_and_health_needs_none(site: Site, token: str | None) -> None:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    with site.triton() as client, pytest.raises(triton.InferenceServerException) as refused:
        client.get_server_metadata(headers=headers, client_timeout=REQUEST_TIMEOUT_S)
    assert refused.value.status() == "StatusCode.UNAUTHENTICATED"
    site.proxy.wait()
    with site.gan_client() as client:
        assert [model.name for model in client.models()] == ["tiny"]


@pytest.mark.slow
def test_the_largest_request_and_a_longer_stream_pass(site: Site) -> None:
    rows = CONFIG.max_request_rows
    assert rows * WIDE * 4 == CONFIG.max_latents_bytes
    with site.triton() as client:
        assert send(client, rows) == rows
        answers: list[int] = []
        done = threading.Semaphore(0)

        def receive(result: triton.InferResult | None, error: Exception | None) -> None:
            answers.append(0 if result is None else len(result.as_numpy("pixels")))
            done.release()

        client.start_stream(receive, headers=HEADERS)
        messages = 2 + CONFIG.max_message_bytes // CONFIG.max_latents_bytes  # more bytes than one message may have
        for _ in range(messages):
            client.async_stream_infer("tiny", latents(rows), outputs=WANTED)
            assert done.acquire(timeout=REQUEST_TIMEOUT_S)
        client.stop_stream()
    assert answers == [rows] * messages


@contextlib.contextmanager
def load(sends: list[Callable[[], int]]) -> Iterator[Tally]:
    """Callers that keep sending; the tally is complete after the block."""
    tally, is_over = Tally(), threading.Event()

    def keep_sending(once: Callable[[], int]) -> None:
        while not is_over.is_set():
            tally.call(once)

    threads = [threading.Thread(target=keep_sending, args=(once,), daemon=True) for once in sends]
    for thread in threads:
        thread.start()
    try:
        yield tally
    finally:
        is_over.set()
        for thread in threads:
            thread.join(2 * REQUEST_TIMEOUT_S)


def until_answered(tally: Tally, more: int) -> None:
    """Waits until callers got that many more answers."""
    goal, deadline_s = tally.answered + more, time.monotonic() + REQUEST_TIMEOUT_S
    while tally.answered < goal and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert tally.answered >= goal, tally.lost


@pytest.mark.slow
@pytest.mark.parametrize("event", ["restart", "kill"])
@pytest.mark.parametrize("caller", ["triton", "GanClient"])
def test_no_request_is_lost_while_servers_restart_or_die(site: Site, event: str, caller: str) -> None:
    repeats = caller == "GanClient"
    if site.kind == "nginx" and event == "kill" and not repeats:
        pytest.skip("nginx does not repeat what it has sent to a server that dies, as its file says")
    with contextlib.ExitStack() as stack:
        if repeats:
            ours = stack.enter_context(site.gan_client())
            sends: list[Callable[[], int]] = [lambda: len(ours.generate("tiny", seed=1, count=4))] * CALLERS
        else:
            client = stack.enter_context(site.triton())
            sends = [functools.partial(send, client)] * CALLERS
        with load(sends) as tally:
            for index in range(2):
                until_answered(tally, 100)
                if event == "kill":
                    site.kill(index)
                    until_answered(tally, 100)
                    site.revive(index)
                else:
                    if not repeats:
                        site.proxy.mark_down(site.replicas[index].address)
                    assert site.replicas[index].restart(pause_s=0.5)[0] == 0
                    if not repeats:
                        site.proxy.mark_down(None)
                site.until_shared()
    assert not tally.lost, tally
    assert tally.answered > 400
