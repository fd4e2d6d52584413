"""The Compare tab: two models with the same seed."""

from __future__ import annotations

from typing import Any

import gradio as gr

from client.errors import InvalidRequest
from client.explore.commands_text import file_stem
from client.explore.explorer import Explorer
from client.explore.fields import seed_from, whole_number_from
from client.explore.guard import Guard
from client.explore.html import figure, line_of_text, metrics_table, png_of, side_by_side, titled
from client.explore.tab import MAX_SAMPLES
from client.explore.watch import about, key_of
from ganserve.grids import grid_columns, image_grid


class ComparePanel:
    """The contents of the Compare tab."""

    def __init__(self, explorer: Explorer, guard: Guard, pick: gr.Dropdown) -> None:
        self._explorer = explorer
        gr.HTML(
            line_of_text("The same seed, drawn by two models. Latents of the same size are the same latents."),
            apply_default_css=False,
            padding=False,
        )
        with gr.Row(elem_classes="fields"):
            self.other = gr.Dropdown([], label="Compare with", elem_id="other-model", min_width=160)
            seed = gr.Textbox("0", label="Seed", elem_id="compare-seed", max_lines=1, min_width=80)
            count = gr.Number(36, label="Samples", precision=0, elem_id="compare-count", min_width=80)
            compare = gr.Button("Compare", variant="primary", elem_id="compare", scale=0, min_width=110)
        self.pair = gr.HTML(elem_id="pair", apply_default_css=False, padding=False)
        self.drawn = gr.State("")  # the models of the picture
        inputs = [pick, self.other, seed, count]
        outputs = guard.outputs([self.pair, self.drawn])
        gr.on(
            [compare.click, self.other.input, seed.submit, count.submit],
            guard(self._compare),
            inputs,
            outputs,
            trigger_mode="always_last",
        )
        self.open_event: dict[str, Any] = {
            "fn": guard(self._open),
            "inputs": [self.drawn, *inputs],
            "outputs": outputs,
        }

    def _open(self, drawn: str, key: str, other_key: str | None, seed: str, count: object) -> tuple[Any, ...]:
        """Draws when the tab is opened, unless the picture of these models is already there."""
        if not other_key or drawn == f"{key} {other_key}":
            return ()
        return self._compare(key, other_key, seed, count)

    def _compare(self, key: str, other_key: str | None, seed_text: str, count_text: object) -> tuple[Any, ...]:
        if not other_key:
            raise InvalidRequest("compare with: no model is picked; pick one")
        models = [self._explorer.find(key), self._explorer.find(other_key)]
        seed, count = seed_from(seed_text), whole_number_from("samples", count_text, 1, MAX_SAMPLES)
        figures = []
        for model in models:
            latents = self._explorer.latents(model, seed, count)
            picture = png_of(image_grid(self._explorer.pixels(model, latents), grid_columns(count)))
            stem = file_stem(model, f"seed-{seed}")
            command = self._explorer.commands.grid(model, count, seed, grid_columns(count), f"{stem}.png")
            shown = figure(picture, stem, f"samples of {model.name}", command, latents)
            figures.append(titled(key_of(model), about(model), shown))
        table = metrics_table([key_of(model) for model in models], [self._explorer.metrics(model) for model in models])
        return side_by_side([*figures, table]), f"{key} {other_key}"
