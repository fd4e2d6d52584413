"""Panels of the page without a browser: their events are called as Gradio calls them, against a fake server."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from client import GanClient
from client.explore.commands_text import Commands
from client.explore.explorer import Explorer
from client.explore.tab import Tab
from client.explore.watch import Watch
from tests.client.fake_server import FakeServer

NO_GRADIO = "NO GRADIO: the page of the explorer was not tried"


class PanelPage:
    """A page with a model picker, the state of a tab, the banners, and the panels that a test adds."""

    def __init__(self, blocks: Any, explorer: Explorer) -> None:
        import gradio as gr

        from client.explore.guard import Guard

        self._blocks = blocks
        self.explorer = explorer
        self.pick = gr.Dropdown([], elem_id="model")
        self.tab = gr.State(Tab())
        self._guard = Guard(explorer.watch, gr.HTML(elem_id="banner"), gr.HTML(elem_id="server-banner"))

    def add(self, panel: Any, *arguments: Any) -> Any:
        return panel(self.explorer, self._guard, *arguments)

    def trigger(self, element: str, event: str, *values: Any, extra: Any = ()) -> dict[str, Any]:
        """Calls the handler of an element's event; returns what it changes, by element.

        Args:
            element: the id of the element, such as "sample".
            event: such as "click".
            values: of the event's inputs.
            extra: what Gradio adds to them, such as its EventData.
        """
        found = self._event(element, event)
        assert len(values) == len(found.inputs)
        result: Any = found.fn(*values, *extra)
        if not isinstance(result, dict):
            result = dict(zip(found.outputs, result if isinstance(result, tuple) else (result,), strict=True))
        return {_name_of(component): value for component, value in result.items()}

    def inputs(self, element: str, event: str) -> list[str]:
        """The elements whose values an event's handler is called with, in their order."""
        return [_name_of(component) for component in self._event(element, event).inputs]

    def complaint(self, element: str, event: str, *values: Any, extra: Any = ()) -> str:
        """The banner of an event that fails, and so changes nothing else."""
        changed = self.trigger(element, event, *values, extra=extra)
        assert list(changed) == ["banner"]
        return str(changed["banner"])

    def _event(self, element: str, event: str) -> Any:
        [found] = [
            function
            for function in self._blocks.fns.values()
            for target, name in function.targets
            if name == event and target is not None and self._blocks.blocks[target].elem_id == element
        ]
        return found


def _name_of(component: Any) -> str:
    return component.elem_id or type(component).__name__


@pytest.fixture
def page(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[PanelPage]:
    import gradio as gr

    # No web server and no queue: they are slow to make, and warn of event loops that nobody closes.
    monkeypatch.setattr(gr.Blocks, "queue", lambda blocks: blocks)
    monkeypatch.setattr("gradio.blocks.App.create_app", lambda *_, **__: None)
    with (
        GanClient(server.address, timeout_s=20) as client,
        gr.Blocks(analytics_enabled=False) as blocks,
    ):
        yield PanelPage(blocks, Explorer(client, Watch(client, max_age_s=1000), Commands()))


def pictures_of(html: str) -> list[NDArray[np.uint8]]:
    """The pixels of the pictures in a piece of the page, in their order; downloads are left out."""
    files = [base64.b64decode(uri) for uri in re.findall(r'src="data:image/png;base64,([^"]+)"', html)]
    return [np.asarray(Image.open(io.BytesIO(file))) for file in files]
