"""The measured servers: how each starts, with which settings, and which protocol it speaks.

A new rival is one function here, one row in `RIVALS`, and a program in `servers/`.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.peers.homes import MLSERVER, MOSEC, TRITON, Environment, triton_backends
from benchmarks.peers.layout import Layout, one_instance_on_all_cores, one_instance_per_core
from benchmarks.peers.served_graph import ServedGraph
from benchmarks.peers.wire import OpenInference, Protocol, RawHttp

MAX_BATCH_ROWS: Final = 64  # in every server
_SERVERS = Path(__file__).parent / "servers"
_READY = re.compile(r"^ready: .* on 127\.0\.0\.1:([0-9]+),", re.MULTILINE)
_MLSERVER_WAIT_S = 0.002  # without a wait it does not batch
_FULL_PRECISION = "fp32"
_EXACT = 1e-3  # tolerance, see `Peer`
_ROUGH = 0.1  # the same for reduced precision


@dataclass(frozen=True)
class Launch:
    """How to start a server. Without a port, it picks one itself and logs it."""

    command: Sequence[str]
    protocol: Protocol
    port: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def find_port(self, log: str) -> int | None:
        """The port that it listens on; None if not known yet."""
        if self.port is not None:
            return self.port
        match = _READY.search(log)
        return int(match[1]) if match else None


@dataclass(frozen=True)
class Peer:
    """A server with its settings.

    Args:
        name: in tables.
        prepare: writes its files into an empty folder, and returns how to start it there.
        environment: its virtual environment; None: our own.
        tolerance: largest error of an image, as a share of the largest value; infinite for a server without images.
        is_ours: whether the others are compared with it.
        precision: a precision that our bundle must have.
    """

    name: str
    prepare: Callable[[ServedGraph, Path], Launch]
    environment: Environment | None = None
    tolerance: float = _EXACT
    is_ours: bool = False
    precision: str = _FULL_PRECISION


def ours(name: str, flags: str) -> Peer:
    """Our server, with flags of `python -m server`.

    Raises:
        ValueError: a quote in the flags is not closed.
    """
    given = shlex.split(flags)

    def prepare(graph: ServedGraph, _: Path) -> Launch:
        addresses = ["--address", "127.0.0.1:0", "--metrics-address", "127.0.0.1:0"]
        command = [sys.executable, "-m", "server", "--models", str(graph.repository), *addresses, *given]
        return Launch(command, OpenInference())

    match = re.search(r"--precision[= ](\w+)", " ".join(given))
    precision = match[1] if match else _FULL_PRECISION
    tolerance = _EXACT if precision == _FULL_PRECISION else _ROUGH
    return Peer(name, prepare, tolerance=tolerance, is_ours=True, precision=precision)


def floor() -> Peer:
    """A Python server that computes nothing."""

    def prepare(graph: ServedGraph, _: Path) -> Launch:
        port = free_port()
        sizes = [str(4 * graph.latent_dim), str(graph.image_bytes)]
        return Launch([sys.executable, str(_SERVERS / "floor_server.py"), str(port), *sizes], OpenInference(), port)

    return Peer("floor", prepare, tolerance=float("inf"))


def triton(home: Path, layout: Layout) -> Peer:
    """NVIDIA Triton, from PyTriton's wheel, which has the Python backend but no ONNX Runtime backend."""

    def prepare(graph: ServedGraph, folder: Path) -> Launch:
        repository = folder / "repository"
        version = repository / graph.name / "1"
        version.mkdir(parents=True)
        (version / "model.py").write_text((_SERVERS / "triton_model.py").read_text())
        (repository / graph.name / "config.pbtxt").write_text(_triton_config(graph, layout))
        port = free_port()
        site_packages = TRITON.site_packages(home)
        command = [
            str(site_packages / "pytriton" / "tritonserver" / "bin" / "tritonserver"),
            f"--model-repository={repository}",
            f"--backend-directory={triton_backends(home)}",
            f"--backend-config=python,shm-region-prefix-name=peer{uuid.uuid4().hex[:12]}",
            "--disable-auto-complete-config",
            "--grpc-address=127.0.0.1",
            f"--grpc-port={port}",
            "--allow-http=false",
            "--allow-metrics=false",
            "--exit-timeout-secs=5",
        ]
        environment = {
            # The backend embeds Python, which finds its modules through the first python3 on PATH.
            "PATH": f"{TRITON.python(home).parent}{os.pathsep}{os.environ['PATH']}",
            "LD_LIBRARY_PATH": str(site_packages / "nvidia_pytriton.libs"),
        }
        return Launch(command, OpenInference(), port, environment)

    return Peer(f"triton {layout}", prepare, TRITON)


def _triton_config(graph: ServedGraph, layout: Layout) -> str:
    dims = ", ".join(map(str, graph.image_shape))
    parameters = {"graph": str(graph.graph), "threads": str(layout.threads), "FORCE_CPU_ONLY_INPUT_TENSORS": "yes"}
    lines = [
        f'name: "{graph.name}"',
        'backend: "python"',
        f"max_batch_size: {MAX_BATCH_ROWS}",
        f'input [{{ name: "latents" data_type: TYPE_FP32 dims: [{graph.latent_dim}] }}]',
        f'output [{{ name: "images" data_type: TYPE_FP32 dims: [{dims}] }}]',
        f"instance_group [{{ kind: KIND_CPU count: {layout.instances} }}]",
        "dynamic_batching { max_queue_delay_microseconds: 0 }",
        *(f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}' for key, value in parameters.items()),
    ]
    return "\n".join(lines) + "\n"


def pytriton(home: Path, layout: Layout) -> Peer:
    """NVIDIA PyTriton: Triton with Python callables."""

    def prepare(graph: ServedGraph, folder: Path) -> Launch:
        port, *others = free_ports(3)
        numbers = [layout.instances, layout.threads, MAX_BATCH_ROWS, port, *others]
        command = [str(TRITON.python(home)), str(_SERVERS / "pytriton_server.py"), str(graph.graph), graph.name]
        return Launch([*command, *map(str, numbers)], OpenInference(), port, {"PYTRITON_HOME": str(folder)})

    return Peer(f"pytriton {layout}", prepare, TRITON)


def mlserver(home: Path, layout: Layout) -> Peer:
    """Seldon's MLServer, with the model in the server's process.

    Raises:
        ValueError: the layout has several instances, which MLServer runs in other processes.
    """
    if layout.instances != 1:
        raise ValueError(f"mlserver:{layout}: MLServer runs one instance here; write mlserver:1x{layout.threads}")

    def prepare(graph: ServedGraph, folder: Path) -> Launch:
        port, http_port = free_ports(2)
        settings = {
            "host": "127.0.0.1",
            "http_port": http_port,
            "grpc_port": port,
            "metrics_endpoint": None,
            "parallel_workers": 0,
            "grpc_max_message_length": -1,
            "debug": False,
        }
        model = {
            "name": graph.name,
            "implementation": "mlserver_model.Generator",
            "max_batch_size": MAX_BATCH_ROWS,
            "max_batch_time": _MLSERVER_WAIT_S,
            "parameters": {"extra": {"graph": str(graph.graph), "threads": layout.threads}},
        }
        (folder / graph.name).mkdir()
        (folder / "settings.json").write_text(json.dumps(settings))
        (folder / graph.name / "model-settings.json").write_text(json.dumps(model))
        command = [str(MLSERVER.folder(home) / "bin" / "mlserver"), "start", str(folder)]
        return Launch(command, OpenInference(), port, {"PYTHONPATH": str(_SERVERS)})

    return Peer(f"mlserver {layout}", prepare, MLSERVER)


def mosec(home: Path, layout: Layout) -> Peer:
    """Mosec: a Rust front end with Python workers; HTTP only."""

    def prepare(graph: ServedGraph, folder: Path) -> Launch:
        port = free_port()
        flags = ["--address", "127.0.0.1", "--port", str(port), "--timeout", "30000", "--log-level", "warning"]
        environment = {
            "PEER_GRAPH": str(graph.graph),
            "PEER_INSTANCES": str(layout.instances),
            "PEER_THREADS": str(layout.threads),
            "PEER_MAX_BATCH": str(MAX_BATCH_ROWS),
        }
        command = [str(MOSEC.python(home)), str(_SERVERS / "mosec_server.py"), *flags]
        return Launch(command, RawHttp("/inference"), port, environment)

    return Peer(f"mosec {layout}", prepare, MOSEC)


# name -> its definition, and the default layouts
RIVALS: Final[dict[str, tuple[Callable[[Path, Layout], Peer], tuple[Layout, ...]]]] = {
    "triton": (triton, (one_instance_per_core(), one_instance_on_all_cores())),
    "pytriton": (pytriton, (one_instance_per_core(),)),
    "mlserver": (mlserver, (one_instance_on_all_cores(),)),
    "mosec": (mosec, (one_instance_per_core(),)),
}


def free_port() -> int:
    """A free port of 127.0.0.1, for servers that cannot pick one themselves."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Several different free ports of 127.0.0.1."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports
