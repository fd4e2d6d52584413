"""The Traversal tab: sets single dimensions of a few latents to given values."""

from __future__ import annotations

from typing import Any, Final

import gradio as gr

from client.explore.commands_text import file_stem
from client.explore.explorer import Explorer
from client.explore.fields import dimensions_from, seed_from, values_from, whole_number_from
from client.explore.guard import Guard
from client.explore.html import figure, line_of_text, png_of
from client.sdk import walks
from ganserve.grids import image_grid, labelled_lines
from ganserve.traversal import line_labels

MAX_LATENTS: Final = 32
MAX_LINES_EACH: Final = 16  # limit for dimensions, and for values


class SheetPanel:
    """The contents of the Traversal tab."""

    def __init__(self, explorer: Explorer, guard: Guard, pick: gr.Dropdown) -> None:
        self._explorer = explorer
        gr.HTML(
            line_of_text(
                "Each line sets one dimension of the latent to one value; each column is one latent of the seed. Lines"
                " that look alike belong to dimensions that do little."
            ),
            apply_default_css=False,
            padding=False,
        )
        with gr.Row(elem_classes="fields"):
            self.dimensions = gr.Textbox(label="Dimensions", elem_id="sheet-dimensions", max_lines=1, min_width=150)
            values = gr.Textbox("-3, 0, 3", label="Values", elem_id="sheet-values", max_lines=1, min_width=100)
            seed = gr.Textbox("0", label="Seed", elem_id="sheet-seed", max_lines=1, min_width=80)
            count = gr.Number(8, label="Columns", precision=0, elem_id="sheet-count", min_width=80)
            make = gr.Button("Draw", variant="primary", elem_id="make-sheet", scale=0, min_width=90)
        self.sheet = gr.HTML(elem_id="sheet", apply_default_css=False, padding=False)
        self.drawn = gr.State("")  # the model of the sheet
        inputs = [pick, self.dimensions, values, seed, count]
        outputs = guard.outputs([self.sheet, self.drawn])
        gr.on(
            [make.click, self.dimensions.submit, values.submit, seed.submit, count.submit],
            guard(self._make),
            inputs,
            outputs,
            trigger_mode="always_last",
        )
        self.open_event: dict[str, Any] = {"fn": guard(self._open), "inputs": [self.drawn, *inputs], "outputs": outputs}

    def _open(self, drawn: str, key: str, *fields: Any) -> tuple[Any, ...]:
        """Draws when the tab is opened, unless the sheet of this model is already there."""
        return () if drawn == key else self._make(key, *fields)

    def _make(
        self, key: str, dimensions_text: str, values_text: str, seed_text: str, count_text: object
    ) -> tuple[Any, ...]:
        model = self._explorer.find(key)
        dimensions = dimensions_from(dimensions_text, model.latent_dim, MAX_LINES_EACH)
        values = values_from(values_text, MAX_LINES_EACH)
        seed, count = seed_from(seed_text), whole_number_from("columns", count_text, 1, MAX_LATENTS)
        self._explorer.check_size(model, len(dimensions) * len(values) * count)
        latents = walks.traversal(self._explorer.latents(model, seed, count), dimensions, values)
        images = self._explorer.pixels(model, latents)
        stem = file_stem(model, "traversal")
        command = self._explorer.commands.traverse(model, count, seed, dimensions, values, f"{stem}.png")
        sheet = labelled_lines(image_grid(images, count), line_labels(dimensions, values))
        return figure(png_of(sheet), stem, "the traversal sheet", command, latents), key
