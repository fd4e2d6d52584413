"""Performs the steps of calls on models in this process, with the messages that a server would get."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, get_args

from google.protobuf.message_factory import GetMessageClass

from client.errors import InvalidRequest
from client.sdk.catalog import Catalog
from client.sdk.channel import DEFAULT_TIMEOUT_S, MAX_CHANNELS, checked_timeout_s
from client.sdk.core_thread import CoreThread, Device, answer_of
from client.sdk.latents import whole_number
from client.sdk.steps import ControlMethod, Method, Send, Wait
from client.sdk.transport import BlockingConnection
from ganserve.v1 import generator_pb2

DEFAULT_IN_FLIGHT: Final = 2  # the models compute one request while the caller uses the images of another
DEVICES: Final = get_args(Device)


class LocalConnection(BlockingConnection):
    """A connection to models that are loaded in this process; safe to share between threads.

    Args:
        models: The model repository.
        timeout_s: The deadline of each request for images, in seconds.
        in_flight: How many requests of a large count are computed at once; their responses are kept in memory.
        device: "auto", "cpu" or "cuda"; "auto" uses CUDA if it is available.
        cores: How many cores to compute on; None: all that the process may use.
        only: Which models to load, and a version of each; None: that of its version policy. None: all models.

    Raises:
        GanClientError: An argument is out of range, or the models cannot be loaded.
    """

    def __init__(
        self,
        models: Path | str = "models",
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        in_flight: int = DEFAULT_IN_FLIGHT,
        device: Device = "auto",
        cores: int | None = None,
        only: Mapping[str, int | None] | None = None,
    ) -> None:
        self.timeout_s = checked_timeout_s(timeout_s)
        self.ahead = whole_number("in_flight", in_flight, 1, MAX_CHANNELS)
        if device not in DEVICES:
            raise InvalidRequest(f"device: must be one of {', '.join(DEVICES)}, not {device!r:.60}")
        if cores is not None:
            whole_number("cores", cores, 1, 1024)
        self.catalog = Catalog(str(models))
        self._core = CoreThread(Path(models), device=device, cores=cores, only=only)
        self._finalizer = weakref.finalize(self, self._core.close)  # if nobody calls `close`
        self._finalizer.atexit = False  # the thread has a better way

    def close(self) -> None:
        """Frees the models and ends their threads; later calls raise."""
        self._finalizer()

    def _perform(self, step: Send | Wait) -> Any:
        if isinstance(step, Wait):
            return step.handle.response_class.FromString(answer_of(step.handle.answer))
        rpc = _rpc(step.method)
        # A model may take long to load, and loading has a time limit of its own.
        timeout_s = None if step.method in get_args(ControlMethod) else self.timeout_s
        return _Asked(self._core.ask(rpc.path, step.request.SerializeToString(), timeout_s), rpc.response_class)


@dataclass(frozen=True, eq=False)
class _Asked:
    """A request in progress."""

    answer: Any
    response_class: Any

    def cancel(self) -> None:
        """Gives up the request."""
        self.answer.cancel()


@dataclass(frozen=True)
class _Rpc:
    path: str
    response_class: Any


@cache
def _rpc(method: Method) -> _Rpc:
    described: Any = _file_of(method).DESCRIPTOR
    [service] = [found for found in described.services_by_name.values() if method in found.methods_by_name]
    return _Rpc(f"/{service.full_name}/{method}", GetMessageClass(service.methods_by_name[method].output_type))


def _file_of(method: Method) -> Any:
    """The module of the proto file that has a method."""
    if method == "Check":
        from grpc_health.v1 import health_pb2

        return health_pb2
    if method in get_args(ControlMethod):
        from ganserve.v1 import model_control_pb2

        return model_control_pb2
    return generator_pb2
