"""The client without a server: the calls of `GanClient` on models in this process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from client.sdk.channel import DEFAULT_TIMEOUT_S
from client.sdk.client import GanClient
from client.sdk.core_thread import Device
from client.sdk.local_connection import DEFAULT_IN_FLIGHT, LocalConnection


class LocalClient(GanClient):
    """Has the calls, results and errors of `GanClient`, but loads the models into this process; needs no server.

    The models compute in threads of their own, on all cores that this process may use. Safe to share between threads,
    and in notebooks. Close it, or use it in a `with` block, to free the models. Needs the packages of the server:
    pip install '.[serve]'.

    Args:
        models: The model repository, a folder.
        timeout_s: The deadline of each request for images, in seconds.
        in_flight: How many requests of a large count are computed at once; their responses are kept in memory.
        device: "auto", "cpu" or "cuda"; "auto" uses CUDA if it is available.
        cores: How many cores to compute on; None: all that the process may use.
        only: Which models to load, each with a version or None, such as {"dcgan": None}; loads faster than all, which
            None stands for.

    Raises:
        InvalidRequest: An argument is out of range, there is no such repository or device, or packages are missing.
        UnknownModel: The repository lacks a model or version of `only`.
        VersionNotLoaded: A model or version of `only` does not work.
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
        self._connection = LocalConnection(
            models, timeout_s=timeout_s, in_flight=in_flight, device=device, cores=cores, only=only
        )
