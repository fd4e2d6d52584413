"""Requests lost while two servers are restarted in turn.

    python -m benchmarks.rolling_restart [--through direct] [--restarts 20] [--callers 8] [--long-callers 2]

Callers keep sending requests while one server at a time gets SIGTERM, ends and starts again. Most send a few rows, some
a large batch that takes a good part of a second, so that every restart finds requests in progress. With
`--through direct`, GanClient balances between the two servers itself. Otherwise Triton's client, which repeats nothing,
sends everything to a proxy, which must be installed, with the configuration of docs/operations.md. With `nginx-reload`,
nginx does not check the health of servers, so the script marks a server as down before it stops it.

A request that does not return its images is lost. The exit code is 1 if one is lost, or if a server ends with another
code than 0.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, get_args

import click
import numpy as np

from benchmarks.peers.catalogue import free_ports
from benchmarks.report import report
from benchmarks.serving import publish_untrained
from client import GanClient
from ganserve.bundle import LatentInput

Through = Literal["direct", "haproxy", "envoy", "nginx", "nginx-reload"]

_TIMEOUT_S: Final = 30.0  # of a request
_STOP_TIMEOUT_S: Final = 60.0
_PROXY_START_S: Final = 10.0
_LOST_TEXT: Final = 120  # characters of an error in the table

_HAPROXY: Final = """\
global
    maxconn 4096
defaults
    mode http
    timeout connect 2s
    timeout client 1h
    timeout server 1h
    retries 3
    option redispatch
frontend grpc
    bind 127.0.0.1:{port} proto h2
    default_backend ganserve
backend ganserve
    balance roundrobin
    option httpchk GET /readyz
    default-server proto h2 check inter 500ms fall 2 rise 1
{servers}
"""

_ENVOY: Final = """\
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: grpc
          codec_type: HTTP2
          stream_idle_timeout: 0s
          route_config:
            virtual_hosts:
            - name: ganserve
              domains: ["*"]
              routes:
              - match: {{prefix: /}}
                route:
                  cluster: ganserve
                  timeout: 0s
                  retry_policy: {{retry_on: "connect-failure,refused-stream", num_retries: 2}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: ganserve
    type: STATIC
    connect_timeout: 2s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
    common_lb_config: {{healthy_panic_threshold: {{value: 0}}}}
    health_checks:
    - timeout: 1s
      interval: 0.5s
      no_traffic_interval: 0.5s
      unhealthy_threshold: 2
      healthy_threshold: 1
      grpc_health_check: {{}}
    load_assignment:
      cluster_name: ganserve
      endpoints:
      - lb_endpoints:
{servers}
"""

_NGINX: Final = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream ganserve {{
{servers}
        keepalive 64;
    }}
    server {{
        listen 127.0.0.1:{port} http2;
        client_max_body_size 65m;
        keepalive_requests 1000000000;
        location / {{
            grpc_pass grpc://ganserve;
            grpc_read_timeout 1h;
            grpc_next_upstream error timeout http_502 http_503 non_idempotent;
            grpc_next_upstream_tries 3;
        }}
    }}
}}
"""


@dataclass
class Tally:
    """What became of the requests; for several threads."""

    answered: int = 0
    rows: int = 0
    slowest_s: float = 0.0
    lost: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def call(self, send: Callable[[], int]) -> None:
        """Counts one request; `send` returns the rows of its answer."""
        began_s = time.perf_counter()
        try:
            rows = send()
        except Exception as error:  # noqa: BLE001 - any error is a lost request
            with self._lock:
                self.lost[f"{type(error).__name__}: {str(error)[:_LOST_TEXT]}"] += 1
            return
        with self._lock:
            self.answered += 1
            self.rows += rows
            self.slowest_s = max(self.slowest_s, time.perf_counter() - began_s)


class Replica:
    """A server process that can be restarted on the same ports."""

    def __init__(self, models: Path, port: int, http_port: int, flags: tuple[str, ...]) -> None:
        self.address = f"127.0.0.1:{port}"
        self.http_port = http_port
        self._command = [sys.executable, "-m", "server", "--models", str(models), "--address", self.address]
        self._command += ["--metrics-address", f"127.0.0.1:{http_port}", "--engines", "1", *flags]
        self._process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        if not any(line.startswith("ready:") for line in process.stdout):
            raise click.ClickException(f"the server on {self.address} did not start: {process.communicate()[1]}")
        return process

    def restart(self, pause_s: float) -> tuple[int, float]:
        """Stops the server, waits, and starts it again; returns its exit code, and the seconds that it took to stop."""
        began_s = time.perf_counter()
        code = self.stop()
        taken_s = time.perf_counter() - began_s
        time.sleep(pause_s)
        self._process = self._start()
        return code, taken_s

    def stop(self) -> int:
        """Sends SIGTERM and returns the exit code."""
        self._process.send_signal(signal.SIGTERM)
        self._process.communicate(timeout=_STOP_TIMEOUT_S)
        return self._process.returncode

    def kill(self) -> None:
        """Ends the process, if it still runs."""
        self._process.kill()
        self._process.communicate()


class Proxy:
    """HAProxy, Envoy or nginx in front of the servers, until `close`.

    HAProxy asks /readyz, and Envoy the health service. nginx asks nothing: it leaves a server when a request fails,
    unless the server is marked as down before.

    Args:
        through: which proxy, and whether a server is marked as down in nginx before it stops.
        replicas: the servers.
        folder: for its configuration and log.

    Raises:
        ClickException: the proxy is not installed, or does not answer.
    """

    def __init__(self, through: Through, replicas: list[Replica], folder: Path) -> None:
        kind = through.removesuffix("-reload")
        program = shutil.which(kind) or shutil.which(kind, path="/usr/sbin:/usr/local/sbin")
        if program is None:
            raise click.ClickException(f"--through {through}: {kind} is not installed")
        (self._port,) = free_ports(1)
        self.address = f"127.0.0.1:{self._port}"
        self._is_told = through == "nginx-reload"
        self._replicas, self._folder, self._file = (
            replicas,
            folder,
            folder / (f"{kind}.yaml" if kind == "envoy" else f"{kind}.conf"),
        )
        if kind == "haproxy":
            self._write_haproxy()
            command = [program, "-db", "-f", str(self._file)]
        elif kind == "envoy":
            self._write_envoy()
            command = [program, "-c", str(self._file), "--concurrency", "1", "--log-level", "warning"]
        else:
            self._write_nginx(stopping=None)
            command = [program, "-c", str(self._file), "-p", str(folder)]
        with (folder / f"{kind}.log").open("w") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait_until_answering(self.address)
        except Exception as error:
            self.close()
            said = (folder / f"{kind}.log").read_text()
            raise click.ClickException(f"{kind} does not answer ({error}); it says: {said}") from error

    def is_stopping(self, replica: Replica | None) -> None:
        """Tells nginx which server is about to stop; None once all serve again."""
        if self._is_told:
            self._write_nginx(stopping=replica)
            self._process.send_signal(signal.SIGHUP)

    def close(self) -> None:
        """Ends the proxy."""
        self._process.terminate()
        self._process.wait(_STOP_TIMEOUT_S)

    def _write_haproxy(self) -> None:
        servers = "\n".join(
            f"    server replica{index} {of.address} port {of.http_port} check-proto h1"
            for index, of in enumerate(self._replicas)
        )
        self._file.write_text(_HAPROXY.format(port=self._port, servers=servers))

    def _write_envoy(self) -> None:
        addresses = (of.address.rsplit(":", 1) for of in self._replicas)
        servers = "\n".join(
            f"        - endpoint: {{address: {{socket_address: {{address: {host}, port_value: {port}}}}}}}"
            for host, port in addresses
        )
        self._file.write_text(_ENVOY.format(port=self._port, servers=servers))

    def _write_nginx(self, stopping: Replica | None) -> None:
        servers = "\n".join(
            f"        server {of.address} {'down' if of is stopping else 'max_fails=1 fail_timeout=1s'};"
            for of in self._replicas
        )
        self._file.write_text(_NGINX.format(port=self._port, servers=servers, folder=self._folder))


def _wait_until_answering(address: str) -> None:
    import tritonclient.grpc as triton

    deadline_s = time.monotonic() + _PROXY_START_S
    with triton.InferenceServerClient(address) as client:
        while True:
            try:
                if client.is_server_ready():
                    return
            except triton.InferenceServerException:
                if time.monotonic() > deadline_s:
                    raise
            time.sleep(0.1)


@contextlib.contextmanager
def gan_senders(replicas: list[Replica], model: str) -> Iterator[Callable[[int], int]]:
    """Yields a function that requests a number of rows through GanClient, which balances between the servers."""
    with GanClient([of.address for of in replicas], timeout_s=_TIMEOUT_S) as client:
        yield lambda rows: len(client.generate(model, seed=1, count=rows))


@contextlib.contextmanager
def triton_senders(address: str, model: str, latent_dim: int) -> Iterator[Callable[[int], int]]:
    """Yields a function that requests a number of rows through Triton's client, which repeats nothing."""
    import tritonclient.grpc as triton

    wanted = [triton.InferRequestedOutput("pixels")]

    def send(rows: int) -> int:
        latents = triton.InferInput("latents", [rows, latent_dim], "FP32")
        latents.set_data_from_numpy(np.zeros((rows, latent_dim), np.float32))
        answer = client.infer(model, [latents], outputs=wanted, client_timeout=_TIMEOUT_S)
        return len(answer.as_numpy("pixels"))

    with triton.InferenceServerClient(address) as client:
        yield send


@click.command()
@click.option("--through", type=click.Choice(get_args(Through)), default="direct", show_default=True)
@click.option("--restarts", type=click.IntRange(1), default=20, show_default=True)
@click.option("--callers", type=click.IntRange(0), default=8, show_default=True, help="Callers with 4 rows each.")
@click.option("--long-callers", type=click.IntRange(0), default=2, show_default=True, help="Callers with many rows.")
@click.option("--long-rows", type=click.IntRange(1), default=512, show_default=True)
@click.option("--lame-duck-s", type=float, help="A flag of the server.  [default: the server's]")
@click.option("--pause-s", type=float, default=2.0, show_default=True, help="Pause between restarts.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON file to write.")
def main(
    through: Through,
    restarts: int,
    callers: int,
    long_callers: int,
    long_rows: int,
    lame_duck_s: float | None,
    pause_s: float,
    out: Path | None,
) -> None:
    """Counts the requests that are lost in a rolling restart."""
    flags = () if lame_duck_s is None else ("--lame-duck-s", str(lame_duck_s))
    tally, stops = Tally(), []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        _, card = publish_untrained(folder / "models", "dcgan", "dcgan-digits")
        assert isinstance(card.input, LatentInput)
        replicas: list[Replica] = []
        for port, http_port in zip(*[iter(free_ports(4))] * 2, strict=True):
            replicas.append(Replica(folder / "models", port, http_port, flags))
            stack.callback(replicas[-1].kill)
        proxy: Proxy | None = None
        if through == "direct":
            send = stack.enter_context(gan_senders(replicas, card.name))
        else:
            proxy = Proxy(through, replicas, folder)
            stack.callback(proxy.close)
            send = stack.enter_context(triton_senders(proxy.address, card.name, card.input.latent_dim))
        done = threading.Event()

        def keep_sending(rows: int) -> None:
            while not done.is_set():
                tally.call(lambda: send(rows))

        sizes = [4] * callers + [long_rows] * long_callers
        threads = [threading.Thread(target=keep_sending, args=(rows,), daemon=True) for rows in sizes]
        for thread in threads:
            thread.start()
        try:
            for index in range(restarts):
                time.sleep(pause_s)
                replica = replicas[index % 2]
                if proxy is not None:
                    proxy.is_stopping(replica)
                stops.append(replica.restart(pause_s=0.5))
                if proxy is not None:
                    proxy.is_stopping(None)
                if sys.stderr.isatty():
                    click.echo(f"restart {index + 1} of {restarts}, {tally.lost.total()} lost", err=True)
            time.sleep(pause_s)
        finally:
            done.set()
            for thread in threads:
                thread.join(2 * _TIMEOUT_S)
        codes = [code for code, _ in stops] + [of.stop() for of in replicas]
    failed_codes = [code for code in codes if code]
    row: dict[str, Any] = {
        "through": through,
        "restarts": restarts,
        "answered": tally.answered,
        "lost": tally.lost.total(),
        "slowest answer s": tally.slowest_s,
        "stop s, median": statistics.median(taken_s for _, taken_s in stops),
        "stop s, longest": max(taken_s for _, taken_s in stops),
        "exit codes other than 0": len(failed_codes),
    }
    report("two servers restarted in turn under load", [row], out)
    for reason, count in tally.lost.most_common():
        click.echo(f"lost {count}: {' '.join(reason.split())}")
    sys.exit(1 if tally.lost or failed_codes else 0)


if __name__ == "__main__":
    main()
