"""The synchronous Python client: one class over connection, chunks and wire. Knows no command line and no files."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from client.addresses import DEFAULT_ADDRESS, Addresses
from client.card import ModelDescription
from client.channel import DEFAULT_TIMEOUT_S
from client.connection import Connection
from client.model_info import ModelInfo
from client.sdk_generate import GenerateCalls
from client.sdk_translate import TranslateCalls
from client.security import TlsOptions


class GanClient(GenerateCalls, TranslateCalls):
    """Calls a ganserve server, from a notebook or a program; safe to share between threads.

    A large count is fetched in several requests, all of the same model version and in order. Requests that find the
    server unavailable are sent again a few times, to another server if there are several. Translations, and a large
    count that has begun to come, also wait for a busy server, about 30 s at most; translations go on with smaller
    requests when one misses its deadline. A call that fails raises a `GanClientError`.

    Args:
        address: HOST:PORT, [IPV6]:PORT, dns:///HOST:PORT or unix:PATH. Several IP:PORT, as a list or with commas
            between, and all addresses behind a dns:///HOST:PORT, take turns, and each other's place when one fails.
        timeout_s: The deadline of each request, retries included, in seconds.
        channels: How many connections to open to each server. A large count of generated images has so many requests
            on their way at a time, and memory holds their answers; one is enough for a server with few cores.
        tls: How to know the server, `TlsOptions()` for the public authorities. None: no TLS.
        token: Sent with each request as "authorization: Bearer ...". Without TLS it is refused, but for this machine.

    Raises:
        InvalidRequest: an argument is out of range, or a file of `tls` cannot be used.
    """

    def __init__(
        self,
        address: Addresses = DEFAULT_ADDRESS,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        channels: int = 1,
        tls: TlsOptions | None = None,
        token: str | None = None,
    ) -> None:
        self._connection = Connection(address, timeout_s=timeout_s, channels=channels, tls=tls, token=token)

    def models(self) -> list[ModelInfo]:
        """The models that are ready to serve.

        Raises:
            GanClientError: the server does not answer, or not as it must.
        """
        return self._connection.call(self._connection.catalog.models())

    def info(self, model: str, version: int | None = None) -> ModelInfo:
        """What the list of models says of one, whatever its task.

        Args:
            model: Name of a served model.
            version: None: the newest that is served.

        Raises:
            UnknownModel: it is not served.
            GanClientError: the server does not answer, or not as it must.
        """
        return self._connection.call(self._connection.catalog.info(model, version))

    def describe(self, model: str, version: int | None = None) -> ModelDescription:
        """What there is to know of a served model: its card, the sizes of its files, whether it is ready.

        Args:
            model: Name of a served model.
            version: None: the newest that is served.

        Raises:
            UnknownModel: it is not served.
            UnsupportedByServer: the server is too old to say.
            GanClientError: the server does not answer, or not as it must.
        """
        return self._connection.call(self._connection.catalog.describe(model, version))

    def card(self, model: str, version: int | None = None) -> dict[str, Any]:
        """The card that was published with a served model, a JSON object: data set, figures, files and more.

        Args and errors are those of `describe`. Fields may be missing, and newer exporters add some.
        """
        return self.describe(model, version).card

    def healthy(self, model: str | None = None) -> bool:
        """Whether the server is ready, by grpc.health.v1, and serves `model` if one is named. It is asked once.

        Raises:
            ServerUnreachable: nothing answers at the address.
            UnsupportedByServer: what answers knows no health.
            GanClientError: there is no answer.
        """
        return self._connection.call(self._connection.catalog.healthy(model))

    def close(self) -> None:
        """Closes the connection; calls after this raise."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
