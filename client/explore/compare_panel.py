"""The Compare tab: two models with the same seed."""

from __future__ import annotations

from typing import Any

import gradio as gr

from client.errors import InvalidRequest
from client.explore.commands_text import file_stem
from client.explore.explorer import Explorer
from client.explore.fields import seed_from, whole_number_from
from client.explore.guard import Guard
from client.explore.html import figure, png_of, side_by_side
from client.explore.samples_panel import MAX_SAMPLES
from ganserve.grids import grid_columns, image_grid


class ComparePanel:
    """The contents of the Compare tab."""

    def __init__(self, explorer: Explorer, guard: Guard, pick: gr.Dropdown) -> None:
        self._explorer = explorer
        with gr.Row():
            self.other = gr.Dropdown([], label="Compare with", elem_id="other-model")
            seed = gr.Textbox("0", label="Seed", elem_id="compare-seed", max_lines=1)
            count = gr.Number(36, label="Samples", precision=0, elem_id="compare-count")
            compare = gr.Button("Compare", variant="primary", elem_id="compare")
        gr.Markdown("Two models with latents of the same size get the same latents.")
        self.pair = gr.HTML(elem_id="pair", apply_default_css=False)
        compare.click(
            guard(self._compare),
            [pick, self.other, seed, count],
            guard.outputs([self.pair]),
            trigger_mode="always_last",
        )

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
            figures.append(figure(picture, stem, f"samples of {model.name}", command, latents))
        return (side_by_side(figures),)
