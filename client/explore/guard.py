"""Turns every SDK error into a banner on the page, which disappears after the next success."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, Self, TypeAlias

import gradio as gr

from client.errors import GanClientError, ServerUnreachable
from client.explore.html import line_of_error, server_down
from client.explore.watch import Watch

Handler: TypeAlias = Callable[..., tuple[Any, ...]]


class WithBanner(tuple[Any, ...]):
    """The result of a handler that filled its outputs but also has an error to show.

    Args:
        values: The values of the outputs.
        trouble: The text of the banner; empty for none.
    """

    trouble: str

    def __new__(cls, values: Iterable[Any], trouble: str) -> Self:
        """Creates the tuple."""
        made = super().__new__(cls, values)
        made.trouble = trouble
        return made


class Guard:
    """Wraps event handlers.

    Args:
        watch: Notified when the server is gone.
        banner: Shows the error of the user's last action.
        server_banner: Shows that the server is gone.
    """

    def __init__(self, watch: Watch, banner: gr.HTML, server_banner: gr.HTML) -> None:
        self._watch = watch
        self._banner = banner
        self._server_banner = server_banner

    def outputs(self, components: list[Any]) -> list[Any]:
        """The outputs of a guarded event: `components`, which the handler fills, and the banners."""
        return [*components, self._banner, self._server_banner]

    def __call__(self, handler: Handler, restore: Callable[..., dict[Any, Any]] = lambda *_: {}) -> Handler:
        """Wraps a handler: appends the two banners to its result. If it fails, only the banners change.

        A handler with nothing to do returns (); then nothing changes.

        Args:
            handler: The handler.
            restore: Takes the same arguments; returns values of components to set while the server is gone.
        """

        @wraps(handler)
        def guarded(*arguments: Any) -> Any:
            try:
                result = handler(*arguments)
            except ServerUnreachable as error:
                known = self._watch.snapshot()
                seen = known if known.trouble else self._watch.failed(error)
                down = server_down(seen.trouble, seen.remedy)
                return restore(*arguments) | {self._banner: "", self._server_banner: down}
            except GanClientError as error:
                return {self._banner: line_of_error(str(error))}
            trouble = result.trouble if isinstance(result, WithBanner) else ""
            return (*result, line_of_error(trouble), gr.skip()) if result else {self._banner: gr.skip()}

        return guarded
