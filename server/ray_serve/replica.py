"""A replica: hosts a core, and answers what Ray's proxy passes on. Needs no Ray itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

import grpc

from server.config import ServerConfig
from server.core import Core, answer_unary, by_path
from server.errors import NotLoaded, NotServed, ServerError
from server.fronts.base import Metadata, Unary
from server.hosted_call import HostedCall
from server.limits import quote
from server.ray_serve.context import Context
from server.ray_serve.load import Load
from server.ray_serve.message import Message
from server.ray_serve.methods import PATHS
from server.ray_serve.timed_context import TIMEOUT_KEY
from server.security.security import Security

_VERSIONS: Final = "versions"
_log = logging.getLogger(__name__)


class Replica:
    """One replica of the deployment; it has a method for each name in `methods.PATHS`.

    Ray calls `reconfigure`, `check_health`, `record_autoscaling_stats` and, at the end, `close`, on one event loop.

    Args:
        config: the settings. Those of ports and TLS are Ray's business.

    Raises:
        StartupError: a file that the config names cannot be used.
    """

    def __init__(self, config: ServerConfig) -> None:
        self.core = Core(config)
        self._load = Load(self.core.catalog, config.usable_cores)
        self._methods = by_path(self.core.services(self.core.handler(Security(config).access)))
        self._starting = asyncio.Lock()
        self._is_started = False

    async def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Serves the versions that `user_config` of the deployment asks for; requests are answered meanwhile.

        Args:
            user_config: `versions` gives the version of each model by its name. The others get their newest version.

        Raises:
            ValueError: `user_config` has another form.
            StartupError: no model can be served.
            ServerError: a version that it names is not there, or does not work.
        """
        versions = _wanted_versions(user_config)
        was_running = self._is_started
        await self._start()
        for name, version in versions.items():
            await self.core.models.load(name, version)
        if was_running:
            for name in sorted(self.core.catalog.keys() - versions.keys()):
                try:
                    await self.core.models.load(name, newest=True)
                except (NotLoaded, NotServed) as error:  # no caller to report it to
                    _log.error("%s: what is served stays as it is: %s", name, error)

    async def check_health(self) -> None:
        """Returns if the replica answers requests. Ray replaces it after a few failures in a row.

        Raises:
            RuntimeError: it does not.
            StartupError: no model can be served.
        """
        await self._start()
        if not self.core.gate.is_ready:
            raise RuntimeError(f"the replica is {self.core.gate.state}")
        if broken := [str(model) for model in self.core.catalog.versions() if not model.ready]:
            raise RuntimeError(f"the engines of {', '.join(broken)} are being rebuilt")

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Returns the load, for `server.ray_serve.rows_policy.RowsPolicy`."""
        return self._load.report()

    async def answer(self, path: str, body: bytes, context: Context) -> Message:
        """Answers one message of a unary method.

        An error is returned as a status, not raised: Ray drops the trailing metadata of what is raised, and with them
        the time after which a client should retry.

        Args:
            path: the method, for example /ganserve.v1.Generator/Generate.
            body: the serialised request.
            context: the call; gets the status.
        """
        metadata = context.invocation_metadata()
        call = HostedCall(_timeout_s(metadata), metadata, context.peer())
        method = self._methods.get(path)
        if not isinstance(method, Unary):
            context.set_code(grpc.StatusCode.UNIMPLEMENTED)
            context.set_details(f"no unary method {quote(path)}")
            return Message(b"")
        try:
            return Message(await answer_unary(method, body, call))
        except ServerError as error:
            context.set_code(error.code)
            context.set_details(str(error))
            context.set_trailing_metadata(list(error.trailing_metadata))
            return Message(b"")
        finally:
            call.end()  # Ray copies the answer as soon as it is returned

    async def close(self) -> None:
        """Finishes the requests inside and stops every thread. Ray has stopped to bring new ones."""
        await self.core.drain()
        await self.core.close()

    async def _start(self) -> None:
        async with self._starting:
            if not self._is_started:
                await self.core.start()
                self._is_started = True


def _wanted_versions(user_config: Mapping[str, Any]) -> dict[str, int]:
    versions = user_config.get(_VERSIONS, {})
    if user_config.keys() - {_VERSIONS} or not isinstance(versions, Mapping):
        raise ValueError(
            f"user_config: must be empty or name versions, as in versions: {{digits: 2}}, not {user_config!r}"
        )
    for name, version in versions.items():
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise ValueError(f"user_config: the version of {name} must be a number such as 2, not {version!r}")
    return dict(versions)


def _timeout_s(metadata: Metadata) -> float | None:
    for key, value in metadata:
        if key == TIMEOUT_KEY:
            return int(value) / 1000
    return None


def _method(name: str, path: str) -> Callable[..., Coroutine[Any, Any, Message]]:
    async def method(self: Replica, body: bytes, grpc_context: Context) -> Message:  # Ray looks for grpc_context
        return await self.answer(path, body, grpc_context)

    method.__name__ = name
    method.__doc__ = f"Answers one message of {path}."
    return method


for _name, _path in PATHS.items():
    setattr(Replica, _name, _method(_name, _path))
