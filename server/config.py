"""All settings of the server, with their defaults."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from ganserve.bundle import MAX_BATCH_ROWS
from ganserve.machine import usable_cores

Device = Literal["auto", "cpu", "cuda"]
Backend = Literal["onnx", "torchscript"]
DEVICES: tuple[Device, ...] = get_args(Device)
BACKENDS: tuple[Backend, ...] = get_args(Backend)
FrontName = Literal["auto", "core", "aio"]
FRONT_NAMES: tuple[FrontName, ...] = get_args(FrontName)
Precision = Literal["fp32", "bf16", "fp16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
ModelControl = Literal["none", "explicit", "poll"]
MODEL_CONTROLS: tuple[ModelControl, ...] = get_args(ModelControl)
MESSAGE_OVERHEAD_BYTES: Final = 64 << 10  # of a request: everything except the input
MAX_SECONDS: Final = 2_000_000  # 23 days: gRPC counts milliseconds in 32 bits
MAX_SOCKET_PATH_BYTES: Final = 107  # what Linux allows
_UNIX: Final = "unix:"


@dataclass(frozen=True)
class Address:
    """Where to listen: a host and a port (0 picks a free one), or a Unix socket."""

    host: str
    port: int
    path: str = ""  # of a Unix socket; then there is no host and no port

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parses HOST:PORT, with an IPv6 host in brackets, or unix:PATH.

        Raises:
            ValueError: the text does not have that form.
        """
        if text.startswith(_UNIX):
            return cls("", 0, _socket_path(text))
        host, _, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if bracketed:
            host = host[1:-1]
        well_formed = host and host == host.strip() and (bracketed or ":" not in host)
        if not (well_formed and port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) < 2**16):
            raise ValueError(f"{text!r} is not HOST:PORT with a port of 0 to 65535; write for example 127.0.0.1:50051")
        return cls(host, int(port))

    def __str__(self) -> str:
        if self.path:
            return f"{_UNIX}{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _socket_path(text: str) -> str:
    path = text.removeprefix(_UNIX)
    path = path[2:] if path.startswith("///") else path  # unix:///run/x.sock, as gRPC's clients may write it
    if not path or not path.isprintable() or len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise ValueError(
            f"{text!r} is not unix:PATH with a path of 1 to {MAX_SOCKET_PATH_BYTES} bytes;"
            " write for example unix:/run/ganserve.sock"
        )
    return path


@dataclass(frozen=True)
class ServerConfig:
    """All settings of `python -m server`."""

    models: Path = Path("models")
    address: Address = Address("127.0.0.1", 50051)
    admin_address: Address | None = None  # where models are loaded and unloaded; None: on `address`
    metrics_address: Address | None = Address("127.0.0.1", 9095)  # None opens no HTTP port
    http_address: Address | None = None  # of the HTTP API; None: gRPC only
    tls_certificate: Path | None = None  # PEM files, read again once they change; None: no TLS
    tls_key: Path | None = None
    tls_client_ca: Path | None = None  # of the certificates that clients must have; None: they need none
    token_file: Path | None = None  # one token per line; None: no token is needed
    admin_token_file: Path | None = None  # for the methods that show or change what is served
    device: Device = "auto"
    backend: Backend = "onnx"
    precision: Precision = "fp32"
    model_control: ModelControl = "none"
    poll_s: float = 15.0  # between two scans of the repository, with model_control "poll"
    cuda_devices: tuple[int, ...] | None = None  # indices; None uses all
    cuda_graphs: bool = False
    access_log: str | None = None  # a path, or "-" for stdout
    otlp_endpoint: str | None = None  # URL of an OpenTelemetry collector
    max_batch_size: int = MAX_BATCH_ROWS  # rows; models of large images have a lower limit
    cores: int | None = None  # None finds out how many this process may use
    engines: int | None = None  # in parallel on the CPU; None chooses by the number of cores
    max_queue_delay_us: int | None = None  # None adapts the wait to the load
    max_queue_rows: int = 4096
    max_request_rows: int = 1024
    lame_duck_s: float = 2.0
    drain_timeout_s: float = 30.0
    load_timeout_s: float = 300.0  # of one version, from its card to its warm-up
    compute_timeout_s: float = 60.0  # of one run of a graph by ONNX Runtime
    max_response_bytes: int = 256 << 20
    max_request_bytes: int = 64 << 20  # of the input images of one request
    max_image_pixels: int = 1 << 25  # per input image, before it is resized; bounds the memory of the decoder
    max_latent_bytes_per_row: int = 16 << 10  # multiplied by max_request_rows, bounds the latents of one request
    max_pending_input_bytes: int = 512 << 20  # of all images and large requests in progress, encoded and decoded
    max_pending_answer_bytes: int = 1 << 30  # of all answers that slow clients have not read yet
    max_concurrent_requests: int = 10_000  # more are refused before their message is received
    max_concurrent_requests_per_connection: int = 4000  # a client should open another connection for more
    max_connections: int = 10_000  # to the gRPC port; also bounded by the limit of file descriptors
    max_connection_idle_s: float | None = None  # None never closes a connection without requests
    max_connection_age_s: float | None = None  # None lets a connection live as long as its client wants
    max_connection_age_grace_s: float | None = None  # None never cuts off the requests of an old connection
    front: FrontName = "auto"  # what stands between gRPC and the services
    grpc_compression: bool = False  # of answers, for clients that can read it

    @property
    def usable_cores(self) -> int:
        """`cores`, or as many as the affinity and the CPU quota of the process allow."""
        return self.cores or usable_cores()

    @property
    def max_latents_bytes(self) -> int:
        """The most bytes of latents in one request, sent or drawn from a seed."""
        return self.max_request_rows * self.max_latent_bytes_per_row

    @property
    def max_received_bytes(self) -> int:
        """The most bytes of any input in one request."""
        return max(self.max_latents_bytes, self.max_request_bytes)

    @property
    def max_message_bytes(self) -> int:
        """The largest request message that gRPC accepts."""
        return self.max_received_bytes + MESSAGE_OVERHEAD_BYTES

    @property
    def input_budget_bytes(self) -> int:
        """`max_pending_input_bytes`, but at least the largest request."""
        return max(self.max_pending_input_bytes, self.max_message_bytes + self.max_request_bytes)

    @property
    def answer_budget_bytes(self) -> int:
        """`max_pending_answer_bytes`, but at least the largest answer."""
        return max(self.max_pending_answer_bytes, self.max_response_bytes + MESSAGE_OVERHEAD_BYTES)
