"""Polls what the server serves, at a limited rate for any number of open pages."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Final

from client.errors import DeadlineExceeded, GanClientError, ServerUnreachable, UnknownModel
from client.sdk.client import GanClient
from client.sdk.model_info import ModelInfo

_MAX_AGE_S: Final = 1.0


@dataclass(frozen=True)
class Served:
    """A snapshot of the server.

    Attributes:
        models: The models that can be explored, sorted; while the server is gone, the last ones known.
        trouble: Why the server does not answer, as one line; empty if it does.
        troubles: How often the server has stopped answering.
        remedy: The command that starts the server; empty if it answers.
    """

    models: tuple[ModelInfo, ...] = ()
    trouble: str = ""
    troubles: int = 0
    remedy: str = ""


class Watch:
    """Polls the list of models; safe to share between threads.

    Args:
        client: Has a short deadline.
        max_age_s: How long a snapshot stays valid.
        start_command: Starts the server; shown while it is gone.
    """

    def __init__(self, client: GanClient, max_age_s: float = _MAX_AGE_S, start_command: str = "") -> None:
        self._client = client
        self._start_command = start_command
        self._max_age_s = max_age_s
        self._asking = threading.Lock()
        self._asked_s = -float("inf")  # when the last snapshot was requested
        self._is_forgotten = True  # whether that snapshot is invalid
        self._served = Served()

    def snapshot(self, *, now: bool = False) -> Served:
        """Returns the last snapshot, or a new one if that is too old, or always with `now`.

        While one thread asks the server, the others get the last snapshot, except with `now`.
        """
        if now or self._is_due():
            if not self._asking.acquire(blocking=now or self._is_forgotten):
                return self._served
            try:
                if now or self._is_due():  # no other thread has asked since
                    self._ask()
            finally:
                self._asking.release()
        return self._served

    def forget(self) -> None:
        """Invalidates the last snapshot: the next call asks the server and waits."""
        self._is_forgotten = True

    def failed(self, error: GanClientError) -> Served:
        """Records that a request just failed; the next snapshot is a new one."""
        self._note(error)
        self._asked_s = -float("inf")
        return self._served

    def find(self, key: str) -> ModelInfo:
        """The model with a key, NAME:VERSION.

        Raises:
            UnknownModel: The model is not served, or the key is empty.
            ServerUnreachable: The server does not answer.
        """
        for now in (False, True):
            served = self.snapshot(now=now)
            if served.trouble:
                raise ServerUnreachable(served.trouble)
            for model in served.models:
                if key_of(model) == key:
                    return model
        raise UnknownModel(gone(key, served.models) if key else "no model is picked; pick one above")

    def _is_due(self) -> bool:
        return self._is_forgotten or self._asked_s < time.monotonic() - self._max_age_s

    def _ask(self) -> None:
        asked_s, self._is_forgotten = time.monotonic(), False
        try:
            models = self._client.models()
        except GanClientError as error:
            self._note(error)
        else:
            known = [model for model in models if model.task != "unknown"]
            listed = tuple(sorted(known, key=lambda model: (model.name, model.version)))
            self._served = Served(listed, "", self._served.troubles)
        self._asked_s = asked_s

    def _note(self, error: GanClientError) -> None:
        before = self._served
        remedy = self._start_command if _is_gone(error) else ""
        self._served = Served(before.models, _trouble(error), before.troubles + (not before.trouble), remedy)


def key_of(model: ModelInfo) -> str:
    """The key of a model on the page, NAME:VERSION."""
    return f"{model.name}:{model.version}"


def about(model: ModelInfo) -> str:
    """A model in one line."""
    taken = (
        f"pictures of {model.input_width}x{model.input_height} pixels"
        if model.task == "translate"
        else f"latents of {model.latent_dim} numbers"
    )
    colours = {1: "gray", 3: "colour"}.get(model.channels, f"{model.channels}-channel")
    trained = " trained on ".join(part for part in (model.kind, model.dataset) if part) or "imported"
    return f"{trained}; turns {taken} into {colours} pictures of {model.width}x{model.height} pixels"


def gone(key: str, models: tuple[ModelInfo, ...]) -> str:
    """The error for a picked model that is no longer served."""
    name = key.rpartition(":")[0]
    others = [key_of(model) for model in models if model.name == name] or [key_of(model) for model in models]
    if not others:
        return f"{key} is no longer served, and the server has no other models; load one, and it appears here"
    return f"{key} is no longer served; pick another model: {', '.join(others[:8])}"


def _is_gone(error: GanClientError) -> bool:
    return isinstance(error, ServerUnreachable | DeadlineExceeded)


def _trouble(error: GanClientError) -> str:
    if _is_gone(error):
        return f"The server is gone: {error}. This page continues when it is back."
    return f"The server does not list its models: {error}."
