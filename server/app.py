"""Assembles the server and runs its lifecycle: load, listen, serve, retire, drain, stop."""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections.abc import Callable

import grpc

from server import daemon_threads
from server.config import ServerConfig
from server.core import Core, by_path
from server.descriptors import connections_within, raise_descriptor_limit
from server.errors import StartupError
from server.fronts.base import Front
from server.fronts.choice import choose_front
from server.http.app import HttpApp
from server.http.endpoint import HttpEndpoint
from server.quiet import wait_until_quiet
from server.rest.host import RestHost
from server.rpc import reflection
from server.rpc.reservation import Reservation, refuse_shared_ports
from server.rpc.transport import bind, cannot_listen, make_server
from server.rpc.unsent import unsent_bytes
from server.security.access import Access
from server.security.exposure import exposure_warnings
from server.security.security import Security
from server.signals import StopSignals, on_hangup

_log = logging.getLogger(__name__)
_CLOSE_GRACE_S = 1.0  # without a drain
_PATIENCE_S = 5.0  # with clients that keep sending requests, do not read their answers, or leave their streams idle
_CUT_OFF_EXIT_CODE = 1


class Server:
    """A gRPC server and its HTTP port, on the running event loop.

    Call `reserve`, `core.load` and `listen`; then optionally `core.retire` and `drain`; then `close`.

    Attributes:
        core: answers the requests.
        address: where gRPC listens; with the real port once it is known.
        admin_address: where admin calls are answered; None for `address`.
        http_address: of the HTTP API; None without it.
        metrics_address: of the port for metrics; None without one.
    """

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self.security = Security(config)
        self.core = Core(config)
        self.address = config.address
        self.admin_address = config.admin_address
        self.http_address = config.http_address
        self.metrics_address = config.metrics_address
        self._endpoint: HttpEndpoint | None = None
        self._reservations: list[Reservation] = []
        self._credentials: list[grpc.ServerCredentials | None] = []  # one per port, because gRPC consumes them
        self._stopping: asyncio.Task[None] | None = None
        self._make_front = choose_front(config.front)
        self._server = self._make_server(self.security.access)
        # A server of its own, because a call does not say on which port it arrived.
        self._admin_server = None if config.admin_address is None else self._make_server(self.security.admin_access)
        self._rest_host = None if config.http_address is None else self._make_rest_host()

    def _make_server(self, access: Access | None) -> Front:
        """Returns a server with all services, whose calls are checked by `access`."""
        handler = self.core.handler(access)
        services = self.core.services(handler)
        services[reflection.SERVICE] = reflection.reflection_methods(services, handler)
        return make_server(self._make_front, self.config, by_path(services))

    def _make_rest_host(self) -> RestHost:
        """Returns the host of the HTTP API, whose calls are checked like those of `address`."""
        try:
            from server.rest.app import make_app  # an optional extra
        except ImportError as error:
            raise StartupError(
                f"--http-address: needs Starlette ({error}); run pip install '.[http]', or leave it out"
            ) from error
        methods = by_path(self.core.services(self.core.handler(self.security.access)))
        app = make_app(methods, self.core.gate, self.core.input_budget, self.config.max_message_bytes)
        tls = None if self.security.tls is None else self.security.tls.ssl_context()
        return RestHost(app, connections_within(self.config.max_connections), tls)

    @property
    def http_url(self) -> str | None:
        """The root of the port for metrics, for example http://127.0.0.1:9095; None if it is not open."""
        return None if self._endpoint is None else self._endpoint.url

    @property
    def rest_url(self) -> str | None:
        """The root of the HTTP API, for example http://127.0.0.1:8080; None without it."""
        if self.http_address is None:
            return None
        return f"{'http' if self.security.tls is None else 'https'}://{self.http_address}"

    def reserve(self) -> None:
        """Opens the HTTP port and reserves those for gRPC, so that all are known before the models load.

        Raises:
            StartupError: an address is not available.
        """
        refuse_shared_ports(self.config)
        for warning in exposure_warnings(self.config):
            _log.warning(warning)
        self._credentials = [self.security.credentials() for _ in self._servers]
        self._reservations.append(Reservation(self.config.address))
        self.address = self._reservations[-1].address
        if self.config.admin_address is not None and self.security.access:
            self._reservations.append(Reservation(self.config.admin_address, "--admin-address"))
            self.admin_address = self._reservations[-1].address
            self.security.access.control_at = str(self.admin_address)
        if self.config.http_address is not None:
            self._reservations.append(Reservation(self.config.http_address, "--http-address"))
            self.http_address = self._reservations[-1].address
        if self.config.metrics_address is not None:
            try:
                app = HttpApp(self.core.metrics.registry, self.core.gate)
                tls = None if self.security.tls is None else self.security.tls.ssl_context()
                self._endpoint = HttpEndpoint(app, self.config.metrics_address, tls)
            except OSError as error:
                raise cannot_listen("--metrics-address", self.config.metrics_address, error) from error
            self.metrics_address = self._endpoint.address

    async def listen(self) -> None:
        """Opens the ports for requests and serves. Not before: for most balancers, an open port is a ready server.

        Raises:
            StartupError: the address is no longer available.
        """
        bind(self._server, self.address, self._credentials[0])
        if self._admin_server is not None and self.admin_address is not None:
            bind(self._admin_server, self.admin_address, self._credentials[-1], "--admin-address")
        await self.core.open()
        for server in self._servers:
            await server.start()
        if self._rest_host is not None and self.http_address is not None:
            try:
                self._rest_host.start(self.http_address)
            except OSError as error:
                raise cannot_listen("--http-address", self.http_address, error) from error

    async def drain(self) -> bool:
        """Finishes all requests, and accepts no call from then on.

        The server first waits for a moment in which nothing would be lost, and answers requests until then. If it finds
        none, gRPC sends GOAWAY, after which clients call another replica. It then cancels the calls that it has
        received but not yet handed over, about one per busy caller; clients may repeat these, because no work was done
        for them.

        Returns:
            False if the drain timeout has passed and some requests are not finished.
        """
        await self.core.retire()
        self.core.models.hurry()
        _log.info(
            "draining: finishing %d requests in at most %g s (--drain-timeout-s)",
            self.core.gate.inside,
            self.config.drain_timeout_s,
        )
        finishing = asyncio.create_task(self._finish())
        await asyncio.wait((finishing,), timeout=self.config.drain_timeout_s)
        finishing.cancel()
        self.core.gate.drain()
        if self.core.gate.inside:
            _log.warning("the drain timeout has passed: %d requests are cut off", self.core.gate.inside)
        return not self.core.gate.inside

    async def _finish(self) -> None:
        """Stops gRPC once it is quiet, and returns when no call is left that is a request.

        The gate alone does not tell: a call enters it once its message has arrived completely, and leaves it once gRPC
        has taken the answer, which may still wait for a slow client. Streams that are idle may never end.
        """
        addresses = (self.address, self.admin_address, self.http_address)
        ports = {address.port for address in addresses if address is not None}
        patience_s = min(_PATIENCE_S, self.config.drain_timeout_s / 2)
        await wait_until_quiet(self.core.gate, lambda: unsent_bytes(ports), patience_s)
        self.core.end()
        self._stopping = asyncio.create_task(self._stop(math.inf))
        while not self._stopping.done():
            await self.core.gate.wait_until_empty()
            await asyncio.wait((self._stopping,), timeout=_PATIENCE_S)
            if not self.core.gate.inside:
                return

    async def close(self) -> bool:
        """Closes the ports and stops every thread. Requests still in flight are cut off after a second.

        Returns:
            False if a thread is still running, which would keep the process from ending.
        """
        if self._stopping is None:
            await self._stop(_CLOSE_GRACE_S)
        else:
            await self._stop(None)
            await self._stopping
        for reservation in self._reservations:
            reservation.close()
        stopped = await self.core.close()
        if self._endpoint is not None:
            await asyncio.to_thread(self._endpoint.close)
            self._endpoint = None
        return stopped

    @property
    def _servers(self) -> list[Front]:
        return [self._server] if self._admin_server is None else [self._server, self._admin_server]

    async def _stop(self, grace_s: float | None) -> None:
        hosts: list[Front | RestHost] = [*self._servers, *([self._rest_host] if self._rest_host else [])]
        await asyncio.gather(*(host.stop(grace_s) for host in hosts))


async def start(config: ServerConfig) -> Server:
    """Starts a server; its addresses then hold the real ports. The caller closes it.

    Raises:
        StartupError: the server cannot start with this config; no port is left open.
    """
    server = Server(config)
    try:
        server.reserve()
        await server.core.load()
        await server.listen()
    except BaseException:
        await server.close()
        raise
    return server


async def serve(config: ServerConfig, announce: Callable[[str], None]) -> int:
    """Serves until SIGTERM or SIGINT, drains, and returns the exit code; server/signals.py lists all signals.

    Args:
        config: the settings.
        announce: prints a line for the user once the server is ready.

    Raises:
        StartupError: the server cannot start with this config.
    """
    raise_descriptor_limit()
    stop = StopSignals()
    server = Server(config)
    on_hangup(server.core.reopen_access_log)
    stopping = asyncio.create_task(stop.received.wait())
    try:
        server.reserve()
        loading = asyncio.create_task(server.core.load())
        await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not loading.done():
            os._exit(0)  # no request was accepted yet, and a runtime that loads a model cannot be interrupted
        await loading
        await server.listen()
        for model in server.core.catalog.versions():
            announce(f"model {model}: {model.backend} on {model.device}, {model.precision}")
        models = ", ".join(map(str, server.core.catalog.versions()))
        where = "no metrics" if server.http_url is None else f"metrics on {server.http_url}/metrics"
        admin = "" if server.admin_address is None else f", admin calls on {server.admin_address}"
        rest = "" if server.rest_url is None else f", HTTP API on {server.rest_url}"
        announce(f"ready: serving {models} on {server.address}, {where}{admin}{rest}")
        await stopping
        await server.core.retire()
        if not stop.hurried and config.lame_duck_s:
            _log.info("stopping: serving for %g s more (--lame-duck-s), until balancers notice", config.lame_duck_s)
            await asyncio.sleep(config.lame_duck_s)
        if not await server.drain():
            await server.core.close_logs()
            os._exit(_CUT_OFF_EXIT_CODE)  # the threads of the engines may never end
    finally:
        stopping.cancel()
        stopped = await server.close()
    if not stopped:
        _log.warning("an image is still being decoded after its client disconnected; it is cut off")
        os._exit(0)
    if daemon_threads.running():
        _log.warning("a model is still being loaded; it is cut off")
        os._exit(0)
    _log.info("stopped")
    return 0
