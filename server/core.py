"""Everything that answers requests, without a transport: models, batches, limits, metrics and logs.

A host brings the calls: the gRPC server of server/app.py, or any other program. Calls are bytes in and bytes out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from grpc_health.v1 import health_pb2

from ganserve.machine import memory_limit_bytes
from server.access_log import AccessLog
from server.config import ServerConfig
from server.errors import ServerError, StartupError
from server.fronts.base import Call, Methods, Unary
from server.gate import Gate
from server.generator import service as generator
from server.generator.image_reader import MAX_THREADS, ImageReader
from server.generator.service import GeneratorService
from server.limits import quote
from server.memory import resident_bytes, shortage
from server.metrics import Metrics
from server.model_control import service as model_control
from server.model_control.service import ModelControlService
from server.models.catalog import Catalog
from server.models.lifecycle import Models
from server.open_inference import service as inference
from server.open_inference.service import InferenceService
from server.rpc import health
from server.rpc.byte_budget import ByteBudget
from server.rpc.handler import RequestHandler
from server.rpc.parsing import MessageParser
from server.security.access import Access

if TYPE_CHECKING:
    from server.tracing import Tracer

_log = logging.getLogger(__name__)


class Core:
    """The models of a repository and the services that answer from them, on the running event loop.

    Call `start`, then `answer` any number of times; then optionally `drain`; then `close`. A host with a transport of
    its own calls `load` and `open` instead of `start`, and takes the methods of `services`.

    Args:
        config: the settings. Those of ports, TLS and tokens are the business of a host.

    Attributes:
        catalog: the served models.
        models: loads and unloads them.
        gate: tells whether requests are let in.
        metrics: the registry for Prometheus.
        input_budget: bounds the bytes of input that are in the server at once.

    Raises:
        StartupError: a log cannot be opened.
    """

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self.catalog = Catalog()
        self.gate = Gate()
        self.metrics = Metrics(self.catalog, self.gate, config.usable_cores)
        self.models = Models(self.catalog, config, self.gate)
        self.metrics.watch_versions(self.models.failed_versions, lambda: self.models.load_counts)
        self.input_budget = ByteBudget(config.input_budget_bytes)
        self._image_reader = ImageReader(min(MAX_THREADS, config.usable_cores), config.max_queue_rows)
        self.metrics.watch_input(lambda: self._image_reader.waiting_rows, lambda: self.input_budget.used_bytes)
        self._access_log = None if config.access_log is None else AccessLog.open(config.access_log)
        self._tracer = None if config.otlp_endpoint is None else _open_tracer(config.otlp_endpoint)
        self._generator = GeneratorService(self.catalog, self._image_reader, self.input_budget, config)
        self._open_inference = InferenceService(
            self.catalog, self.models, self.input_budget, MessageParser(), lambda: self.gate.is_ready, config
        )
        self._model_control = ModelControlService(self.models, config)
        self._health = health.Health()
        self._handlers: list[RequestHandler] = []
        self.metrics.watch_unsent(lambda: sum(handler.unsent_bytes for handler in self._handlers))

    def handler(self, access: Access | None = None) -> RequestHandler:
        """Returns a new handler for the calls of one port, which are checked by `access`; None allows all."""
        handler = RequestHandler(
            self.gate,
            self.metrics,
            self._access_log,
            self.config.answer_budget_bytes,
            self.config.max_concurrent_requests,
            access=access,
            tracer=self._tracer,
        )
        self._handlers.append(handler)
        return handler

    def services(self, handler: RequestHandler) -> dict[str, Methods]:
        """Returns the methods of each service, which answer through `handler`."""
        control = self._model_control.behaviours()
        return {
            generator.SERVICE: self._generator.methods(handler),
            model_control.SERVICE: {method: handler.unary(method, behaviour) for method, behaviour in control.items()},
            inference.SERVICE: self._open_inference.methods(handler),
            health.SERVICE: self._health.methods(),
        }

    async def start(self, only: Mapping[str, int | None] | None = None) -> None:
        """Loads every model, or those of `only`, and lets requests in.

        Args:
            only: names of models, each with the version that becomes its default; None for what its policy says.

        Raises:
            StartupError: no model can be served.
            ServerError: a model of `only` cannot be served.
        """
        if only is None:
            await self.load()
        else:
            await self.models.load_some(only)
        await self.open()

    async def load(self) -> None:
        """Loads and warms up every model.

        Raises:
            StartupError: no model can be served.
        """
        await self.models.load_all()
        limit_bytes = memory_limit_bytes()
        if limit_bytes is not None and (warning := shortage(self.config, limit_bytes, resident_bytes())):
            _log.warning("%s", warning)

    async def open(self) -> None:
        """Lets requests in, and tells so those who ask for the health."""
        for service in ("", generator.SERVICE, inference.SERVICE):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        self.gate.open()

    async def answer(self, path: str, body: bytes, call: Call) -> bytes:
        """Answers one message of a unary method, without a check of tokens.

        Args:
            path: the method, for example /ganserve.v1.Generator/Generate.
            body: the serialised request.
            call: its deadline and metadata. Its callbacks run once the answer is sent, because only then its bytes no
                longer count.

        Returns:
            The serialised answer.

        Raises:
            ServerError: the request is refused; the error holds the status.
            LookupError: no service has this method.
        """
        method = self._unary_methods.get(path)
        if method is None:
            raise LookupError(f"no unary method {quote(path)}: name one such as /{generator.SERVICE}/Generate")
        return await answer_unary(method, body, call)

    @cached_property
    def _unary_methods(self) -> dict[str, Unary]:
        methods = by_path(self.services(self.handler()))
        return {path: method for path, method in methods.items() if isinstance(method, Unary)}

    async def retire(self) -> None:
        """Tells those who ask for the health to go elsewhere, but answers those that have not noticed."""
        self.gate.retire()
        await self._health.enter_graceful_shutdown()

    def end(self) -> None:
        """Ends the streams that would never end, and refuses their new messages."""
        self.gate.drain()
        self._health.end_watches()

    async def drain(self) -> bool:
        """Finishes the requests inside, for hosts that have stopped bringing new ones.

        Returns:
            False if the drain timeout has passed and some requests are not finished.
        """
        await self.retire()
        self.models.hurry()
        self.end()
        try:
            async with asyncio.timeout(self.config.drain_timeout_s):
                await self.gate.wait_until_empty()
        except TimeoutError:
            _log.warning("the drain timeout has passed: %d requests are cut off", self.gate.inside)
        return not self.gate.inside

    async def close(self) -> bool:
        """Closes the models and logs, and stops every thread.

        Returns:
            False if a thread is still running, which would keep the process from ending.
        """
        stopped = await self._image_reader.close()
        await self.models.close()
        await self.close_logs()
        return stopped

    def reopen_access_log(self) -> None:
        """Opens the file of the access log again, for programs that rotate it by renaming."""
        if self._access_log is not None:
            self._access_log.reopen()

    async def close_logs(self) -> None:
        """Writes the remaining lines and spans, and closes the access log. Safe to call twice."""
        if self._tracer is not None:
            await asyncio.to_thread(self._tracer.close)
            self._tracer = None
        if self._access_log is not None:
            await asyncio.to_thread(self._access_log.close)
            self._access_log = None


def by_path(services: dict[str, Methods]) -> Methods:
    """Returns the methods of all services by their path, for example /grpc.health.v1.Health/Check."""
    return {f"/{name}/{method}": how for name, methods in services.items() for method, how in methods.items()}


async def answer_unary(method: Unary, body: bytes, call: Call) -> bytes:
    """Answers a message that has arrived completely.

    Raises:
        ServerError: the request is refused.
    """
    try:
        method.admit(call)
    except ServerError as error:
        method.refused(call, error)
        raise
    return await method.answer(body, call)


def _open_tracer(endpoint: str) -> Tracer:
    try:
        from server.tracing import open_tracer  # an optional extra
    except ImportError as error:
        raise StartupError(
            f"--otlp-endpoint: needs OpenTelemetry ({error}); run pip install '.[otel]', or leave it out"
        ) from error
    return open_tracer(endpoint)
