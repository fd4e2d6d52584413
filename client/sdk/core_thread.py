"""Runs the server's core on an event loop in a thread: models that answer requests without a server.

The only file of the client that imports the server, and not before a core is started: it needs packages that the client
does not.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias
from weakref import WeakSet

from client.errors import DeadlineExceeded, InvalidRequest
from client.sdk.failures import local_failure
from client.sdk.transport import CLOSED

if TYPE_CHECKING:
    from server.config import ServerConfig
    from server.core import Core
    from server.hosted_call import HostedCall

Device: TypeAlias = Literal["auto", "cpu", "cuda"]

_NEEDED: Final = ("onnxruntime", "msgspec", "prometheus_client", "tritonclient")  # of '.[serve]'

_living: WeakSet[CoreThread] = WeakSet()


class CoreThread:
    """The models of a repository, loaded in this process; safe to share between threads.

    Returns from the constructor once the models are loaded.

    Args:
        models: The model repository.
        device: Where to compute; "auto" uses CUDA if it is available.
        cores: How many cores to compute on; None: all that the process may use.
        only: Which models to load, and a version of each; None: that of its version policy. None: all models.

    Raises:
        InvalidRequest: The server's packages are not installed, or there is no such repository or device.
        UnknownModel: The repository does not have one of `only`.
        VersionNotLoaded: A model or version of `only` does not work.
    """

    def __init__(
        self, models: Path, *, device: Device, cores: int | None, only: Mapping[str, int | None] | None
    ) -> None:
        _check_installed()
        from server.config import ServerConfig
        from server.hosted_call import HostedCall

        config = ServerConfig(models=models, device=device, cores=cores, model_control="explicit")
        self._make_call: type[HostedCall] = HostedCall
        self._lock = threading.Lock()
        self._closed = False
        self._loop, self._stop = asyncio.new_event_loop(), asyncio.Event()
        self._core: Core
        started: Future[None] = Future()

        def live() -> None:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._live(config, only, started))

        self._thread = threading.Thread(target=live, name="ganserve-core", daemon=True)
        _close_at_exit(self)
        self._thread.start()
        try:
            started.result()
        except Exception:
            self.close()
            raise
        except BaseException:  # Ctrl-C: whoever pressed it does not want to wait for a load
            self._closed = True
            self._ask_to_stop()
            raise

    def ask(self, path: str, body: bytes, timeout_s: float | None) -> Future[bytes]:
        """Starts a request; the result of the future is the serialised answer, its error a GanClientError.

        Args:
            path: The method, for example /ganserve.v1.Generator/Generate.
            body: The serialised request.
            timeout_s: Its deadline, in seconds; None for none.

        Raises:
            InvalidRequest: The thread is closed.
        """
        with self._lock:  # `close` ends the loop
            if self._closed:
                raise InvalidRequest(CLOSED)
            return asyncio.run_coroutine_threadsafe(self._answer(path, body, timeout_s), self._loop)

    def close(self) -> None:
        """Ends requests in flight, frees the models, and ends all threads. Safe to call twice."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._ask_to_stop()
        if threading.current_thread() is not self._thread:  # garbage is collected in any thread
            self._thread.join()

    def _ask_to_stop(self) -> None:
        with suppress(RuntimeError):  # it has ended by itself
            self._loop.call_soon_threadsafe(self._stop.set)

    async def _live(self, config: ServerConfig, only: Mapping[str, int | None] | None, started: Future[None]) -> None:
        """Loads the models, and lives until `close`."""
        stopping = asyncio.create_task(self._stop.wait())
        core: Core | None = None
        try:
            core = _new_core(config)
            starting = asyncio.create_task(_start(core, only))
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                self._core = core
                started.set_result(None)
                await stopping
        except BaseException as error:  # noqa: BLE001  (the thread that waits raises it)
            started.set_exception(error)
        finally:
            if core is not None:
                await core.close()

    async def _answer(self, path: str, body: bytes, timeout_s: float | None) -> bytes:
        from server.errors import ServerError

        call = self._make_call(timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._core.answer(path, body, call)
        except ServerError as error:
            if self._closed:
                raise InvalidRequest(CLOSED) from error
            raise local_failure(error.code, str(error), timeout_s) from error
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"no images within {timeout_s:g} s; raise the timeout, or request fewer images"
            ) from error
        finally:
            call.end()


def answer_of(asked: Future[bytes]) -> bytes:
    """Waits for an answer of `CoreThread.ask`.

    Raises:
        GanClientError: The request failed.
    """
    try:
        return asked.result()
    except CancelledError as error:
        raise InvalidRequest(CLOSED) from error


def _close_at_exit(core: CoreThread) -> None:
    """Closes `core` when the process ends, if nobody did.

    atexit would be too late: Python ends the threads of all executors before that, and batches are computed in some.
    """
    if not _living:
        import concurrent.futures.thread  # noqa: F401  (it registers what ends those threads; the last one goes first)

        threading._register_atexit(_close_all)  # type: ignore[attr-defined]  # no public function does this
    _living.add(core)


def _close_all() -> None:
    for core in list(_living):
        core.close()


def _check_installed() -> None:
    missing = [package for package in _NEEDED if find_spec(package) is None]
    if missing:
        raise InvalidRequest(
            f"models: to compute without a server needs {', '.join(missing)}: pip install '.[serve]' in a checkout"
        )


def _new_core(config: ServerConfig) -> Core:
    from server.core import Core

    return Core(config)


async def _start(core: Core, only: Mapping[str, int | None] | None) -> None:
    """Loads the models and lets requests in.

    Raises:
        GanClientError: One cannot be loaded.
    """
    from server.errors import ServerError, StartupError

    try:
        await core.start(only)
    except StartupError as error:
        raise _unusable(error) from error
    except ServerError as error:
        if isinstance(error.__cause__, StartupError):  # the device is not available
            raise _unusable(error.__cause__) from error
        raise local_failure(error.code, str(error), None) from error


def _unusable(error: Exception) -> InvalidRequest:
    """The error for flags of the server that are arguments here: `--models` is `models`."""
    return InvalidRequest(str(error).removeprefix("--"))
