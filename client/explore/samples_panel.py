"""The Explore tab: samples of a seed, one of which is the anchor, and sliders that move the anchor."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any, Final

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from client.errors import InvalidRequest
from client.explore.commands_text import file_stem
from client.explore.directions import MAX_DIRECTIONS
from client.explore.explorer import Explorer
from client.explore.fields import dimensions_from, seed_from, whole_number_from
from client.explore.guard import Guard
from client.explore.html import figure, line_of_text, png_of, samples
from client.explore.sliders import at_rest, directions_at_rest, latent_sliders
from client.explore.tab import MAX_DIMENSIONS, Tab, moved
from client.sdk.model_info import ModelInfo
from ganserve.grids import grid_columns, image_grid

MAX_SAMPLES: Final = 144

_PROGRESS: Final = gr.Progress()  # as a default argument, makes Gradio pass a live tracker
_CHOOSE: Final = """
element.addEventListener('click', (event) => {
  const chosen = event.target.closest('button[data-row]');
  if (!chosen) return;
  for (const other of element.querySelectorAll('button[data-row]'))
    other.setAttribute('aria-pressed', String(other === chosen));
  trigger('select', {row: Number(chosen.dataset.row)});
});
"""


class SamplesPanel:
    """The contents of the Explore tab."""

    def __init__(self, explorer: Explorer, guard: Guard, pick: gr.Dropdown, tab: gr.State) -> None:
        self._explorer = explorer
        self._tab = tab
        with gr.Row():
            with gr.Column(scale=5, min_width=320):
                with gr.Row():
                    self.seed = gr.Textbox("0", label="Seed", elem_id="seed", min_width=100)
                    self.count = gr.Number(36, label="Samples", precision=0, elem_id="count", min_width=90)
                    sample = gr.Button("Sample", variant="primary", elem_id="sample", scale=0, min_width=90)
                    other = gr.Button("Another seed", elem_id="another-seed", scale=0, min_width=130)
                gr.Markdown("Click a sample to make it the anchor.")
                self.samples = gr.HTML(elem_id="samples", apply_default_css=False, js_on_load=_CHOOSE)
            with gr.Column(scale=4, min_width=320):
                self.picture = gr.HTML(elem_id="picture", apply_default_css=False)
                with gr.Row():
                    self.keep_a = gr.Button("Keep as A", size="sm", elem_id="keep-a", min_width=80)
                    self.keep_b = gr.Button("Keep as B", size="sm", elem_id="keep-b", min_width=80)
                    reset = gr.Button("Reset sliders", size="sm", elem_id="reset", min_width=80)
            with gr.Column(scale=4, min_width=320):
                find = gr.Button("Find the strongest directions", elem_id="find-directions")
                self.note = gr.HTML(elem_id="directions-note", apply_default_css=False)
                directions = latent_sliders("direction", MAX_DIRECTIONS)
                self.dimensions = gr.Textbox(
                    label=f"Dimensions (at most {MAX_DIMENSIONS})", elem_id="dimensions", max_lines=1
                )
                dimensions = latent_sliders("dimension", MAX_DIMENSIONS)
        self.sliders = dimensions + directions
        made = guard.outputs([tab, self.samples, self.picture, self.note, *self.sliders])
        self.sample_event: dict[str, Any] = {
            "fn": guard(self.sample),
            "inputs": [pick, self.seed, self.count, self.dimensions],
            "outputs": made,
        }
        # always_last: by default, Gradio drops events while an earlier one is running.
        sample.click(**self.sample_event, trigger_mode="always_last")
        self.seed.submit(**self.sample_event, trigger_mode="always_last")
        self.count.submit(**self.sample_event, trigger_mode="always_last")
        other.click(lambda: str(secrets.randbits(32)), None, self.seed, queue=False).then(
            **self.sample_event, trigger_mode="multiple"
        )
        anchored = guard.outputs([tab, self.picture, *self.sliders])
        self.samples.select(guard(self._choose), [tab], anchored, queue=False, show_progress="hidden")
        reset.click(guard(self._rest), [tab], anchored, queue=False, show_progress="hidden")
        self.dimensions.submit(
            guard(self._set_dimensions), [tab, self.dimensions], anchored, trigger_mode="always_last"
        )
        found = guard.outputs([tab, self.note, *directions])
        find.click(guard(self._find), [tab], found, show_progress="minimal", show_progress_on=self.note)
        self.move_event: dict[str, Any] = {
            "fn": guard(self.move),
            "inputs": [tab, *self.sliders],
            "outputs": guard.outputs([self.picture]),
            "preprocess": False,
            "queue": False,
            "show_progress": "hidden",
        }
        for slider in self.sliders:
            slider.input(**self.move_event, trigger_mode="always_last")

    def latent(self, tab: Tab, positions: tuple[Any, ...]) -> tuple[ModelInfo, NDArray[np.float32]]:
        """The model, and the latent of the picture, (latent_dim,).

        Raises:
            GanClientError: There are no samples, the model is not served, or a position is invalid.
        """
        return self._anchored(tab)[0], moved(tab, positions)

    def sample(self, key: str, seed_text: str, count_text: object, dimensions_text: str) -> tuple[Any, ...]:
        """Fills the panel with samples of a seed; the first sample becomes the anchor."""
        model = self._explorer.find(key)
        seed, count = seed_from(seed_text), whole_number_from("samples", count_text, 1, MAX_SAMPLES)
        dimensions = dimensions_from(dimensions_text, model.latent_dim, MAX_DIMENSIONS)
        latents = self._explorer.latents(model, seed, count)
        images = self._explorer.pixels(model, latents)
        columns = grid_columns(count)
        stem = file_stem(model, f"seed-{seed}")
        shown = samples(
            [png_of(image_grid(image[np.newaxis])) for image in images],
            columns,
            0,
            stem,
            self._explorer.commands.grid(model, count, seed, columns, f"{stem}.png"),
            latents,
            png_of(image_grid(images, columns)),
        )
        known = self._explorer.known_directions(model)
        ends = np.stack([latents[0], latents[min(1, count - 1)]])
        tab = Tab(key, seed, count, latents[0], 0, tuple(dimensions), known, ends)
        return tab, shown, self._figure(model, latents[0]), self._note_of(tab), *at_rest(tab)

    def _choose(self, tab: Tab, event: gr.EventData) -> tuple[Any, ...]:
        model, _ = self._anchored(tab)
        row = whole_number_from("sample", event.row, 0, tab.count - 1)
        anchor = self._explorer.latents(model, tab.seed, row + 1)[row]
        return self._rest(replace(tab, anchor=anchor, row=row))

    def _rest(self, tab: Tab) -> tuple[Any, ...]:
        return tab, self._figure(*self._anchored(tab)), *at_rest(tab)

    def _anchored(self, tab: Tab) -> tuple[ModelInfo, NDArray[np.float32]]:
        if tab.anchor is None:
            raise InvalidRequest("samples: there are none yet; press Sample first")
        return self._explorer.find(tab.key), tab.anchor

    def _set_dimensions(self, tab: Tab, text: str) -> tuple[Any, ...]:
        model = self._explorer.find(tab.key)
        return self._rest(replace(tab, dimensions=tuple(dimensions_from(text, model.latent_dim, MAX_DIMENSIONS))))

    def move(self, tab: Tab, *positions: Any) -> tuple[Any, ...]:
        """Generates the picture for the positions of the sliders."""
        return (self._figure(*self.latent(tab, positions)),)

    def _find(self, tab: Tab, progress: gr.Progress = _PROGRESS) -> tuple[Any, ...]:
        model, _ = self._anchored(tab)
        found = self._explorer.find_directions(model, lambda done: progress(done, desc="sampling the generator"))
        after = replace(tab, directions=found)
        return after, self._note_of(after), *directions_at_rest(found)

    def _note_of(self, tab: Tab) -> str:
        if tab.directions is None:
            return line_of_text("Finding directions samples the generator once, which takes a few seconds.")
        share = f"{tab.directions.linear:.0%}"
        return line_of_text(
            f"Percentages are shares of the linear response, which explains {share} of the images' odd variance."
        )

    def _figure(self, model: ModelInfo, latent: NDArray[np.float32]) -> str:
        stem = file_stem(model, "picture")
        command = self._explorer.commands.latents(model, f"{stem}.npy", f"{stem}.png")
        [file] = self._explorer.files(model, latent[np.newaxis])
        return figure(file, stem, "the anchor, moved by the sliders", command, latent[np.newaxis])
