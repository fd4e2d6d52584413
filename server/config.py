"""The server's settings: the only place of a default. No flags here, and nothing that runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from ganserve.bundle import MAX_BATCH_ROWS

Device = Literal["auto", "cpu", "cuda"]
Backend = Literal["onnx", "torchscript"]
DEVICES: tuple[Device, ...] = get_args(Device)
BACKENDS: tuple[Backend, ...] = get_args(Backend)
Precision = Literal["fp32", "bf16", "fp16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
ModelControl = Literal["none", "explicit"]
MODEL_CONTROLS: tuple[ModelControl, ...] = get_args(ModelControl)
MESSAGE_OVERHEAD_BYTES: Final = 64 << 10  # of a request: names, and lengths around its input


@dataclass(frozen=True)
class Address:
    """Where to listen; port 0 means any free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Reads HOST:PORT, with an IPv6 host in brackets.

        Raises:
            ValueError: it is not of that form.
        """
        host, _, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if bracketed:
            host = host[1:-1]
        well_formed = host and host == host.strip() and (bracketed or ":" not in host)
        if not (well_formed and port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) < 2**16):
            raise ValueError(f"{text!r} is not HOST:PORT with a port of 0 to 65535; write for example 127.0.0.1:50051")
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class ServerConfig:
    """Everything that `python -m server` can be told."""

    models: Path = Path("models")
    address: Address = Address("127.0.0.1", 50051)
    metrics_address: Address = Address("127.0.0.1", 9095)
    device: Device = "auto"
    backend: Backend = "onnx"
    precision: Precision = "fp32"
    model_control: ModelControl = "none"
    cuda_devices: tuple[int, ...] | None = None  # indices; None takes all
    cuda_graphs: bool = False
    access_log: str | None = None  # a path, or "-" for stdout
    max_batch_size: int = MAX_BATCH_ROWS  # rows; models of large images have a lower limit of their own
    engines: int | None = None  # that compute side by side on the CPU; None takes what suits the cores
    max_queue_delay_us: int | None = None  # None adapts the wait to what is in flight
    max_queue_rows: int = 4096
    max_request_rows: int = 1024
    drain_timeout_s: float = 30.0
    max_response_bytes: int = 256 << 20
    max_request_bytes: int = 64 << 20  # of the images that one request sends
    max_image_pixels: int = 1 << 25  # of one image that is sent, before it is resized; bounds a decoder's memory
    max_latent_bytes_a_row: int = 16 << 10  # latents are small: this times max_request_rows bounds them
    max_pending_input_bytes: int = 512 << 20  # of all images and large requests in work: as they came, and their rows
    max_pending_answer_bytes: int = 1 << 30  # of all answers that are made and not sent; callers may be slow to read
    max_concurrent_requests: int = 10_000  # more are refused before they are received

    @property
    def max_latents_bytes(self) -> int:
        """The largest latents that a request may hold, or have drawn from a seed."""
        return self.max_request_rows * self.max_latent_bytes_a_row

    @property
    def max_received_bytes(self) -> int:
        """The largest input of any kind that a request may hold."""
        return max(self.max_latents_bytes, self.max_request_bytes)

    @property
    def max_message_bytes(self) -> int:
        """The largest request that is received."""
        return self.max_received_bytes + MESSAGE_OVERHEAD_BYTES

    @property
    def input_budget_bytes(self) -> int:
        """What `max_pending_input_bytes` says, but enough for the largest request alone."""
        return max(self.max_pending_input_bytes, self.max_message_bytes + self.max_request_bytes)

    @property
    def answer_budget_bytes(self) -> int:
        """What `max_pending_answer_bytes` says, but enough for the largest answer."""
        return max(self.max_pending_answer_bytes, self.max_response_bytes + MESSAGE_OVERHEAD_BYTES)
