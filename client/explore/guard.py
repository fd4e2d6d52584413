"""Turns every failure of the SDK into a banner on the page, which goes as soon as something works."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, Self, TypeAlias

import gradio as gr

from client.errors import GanClientError, ServerUnreachable
from client.explore.html import line_of_error
from client.explore.watch import Watch

Handler: TypeAlias = Callable[..., tuple[Any, ...]]


class WithBanner(tuple[Any, ...]):
    """The result of a handler that filled its outputs and still has something to say.

    Args:
        values: of the outputs.
        trouble: for the banner; empty for nothing.
    """

    trouble: str

    def __new__(cls, values: Iterable[Any], trouble: str) -> Self:
        """A tuple with a trouble."""
        made = super().__new__(cls, values)
        made.trouble = trouble
        return made


class Guard:
    """Wraps the handlers of events.

    Args:
        watch: learns at once that the server is gone.
        banner: shows what went wrong with what the user did last.
        server_banner: shows that the server is gone.
    """

    def __init__(self, watch: Watch, banner: gr.HTML, server_banner: gr.HTML) -> None:
        self._watch = watch
        self._banner = banner
        self._server_banner = server_banner

    def outputs(self, components: list[Any]) -> list[Any]:
        """The outputs of a guarded event whose handler fills `components`."""
        return [*components, self._banner, self._server_banner]

    def __call__(self, handler: Handler) -> Handler:
        """The handler, whose result has two more values: the banners. If it fails, everything else stays as it is.

        A handler that had nothing to do returns (), and the banners stay, too.
        """

        @wraps(handler)
        def guarded(*arguments: Any) -> Any:
            try:
                result = handler(*arguments)
            except ServerUnreachable as error:
                known = self._watch.look()
                trouble = known.trouble or self._watch.failed(error).trouble
                return {self._banner: "", self._server_banner: line_of_error(trouble)}
            except GanClientError as error:
                return {self._banner: line_of_error(str(error))}
            trouble = result.trouble if isinstance(result, WithBanner) else ""
            return (*result, line_of_error(trouble), gr.skip()) if result else {self._banner: gr.skip()}

        return guarded
