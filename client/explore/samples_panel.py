"""The Explore tab: samples of a seed or a file, one of which is the starting picture, and sliders that change it."""

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
from client.explore.html import figure, line_of_text, nearest_pictures, png_of, samples
from client.explore.link import Link, dimensions_with
from client.explore.sliders import all_hidden, at_rest, directions_at_rest, latent_sliders, positions_of
from client.explore.tab import MAX_DIMENSIONS, MAX_SAMPLES, Tab, moved, moves, truncation_from
from client.files.latents import read_latents
from client.sdk.model_info import ModelInfo
from ganserve.grids import grid_columns, image_grid

_MAX_RANDOM_SEED: Final = 99_999  # short enough to read out

_NEAREST: Final = 4  # training pictures

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
    """The contents of the Explore tab.

    Attributes:
        made: The components that `show` fills.
        unknown: Counts the samples of models whose directions are unknown; its change asks for them.
    """

    def __init__(self, explorer: Explorer, guard: Guard, pick: gr.Dropdown, tab: gr.State) -> None:
        self._explorer = explorer
        self.unknown = gr.Number(0, visible="hidden", elem_id="unknown")
        with gr.Row(elem_id="explore-row"):
            with gr.Column(scale=5, min_width=320, elem_id="samples-column"):
                with gr.Row(elem_id="sampling"):
                    self.seed = gr.Textbox("0", label="Seed", elem_id="seed", min_width=80, max_lines=1)
                    self.count = gr.Number(36, label="Samples", precision=0, elem_id="count", min_width=80)
                    sample = gr.Button("Sample", variant="primary", elem_id="sample", scale=0, min_width=90)
                    other = gr.Button("Another seed", elem_id="another-seed", scale=0, min_width=136)
                self.truncation = gr.Slider(
                    0,
                    1,
                    1,
                    step=0.05,
                    label="Truncation: lower is more typical and less varied",
                    buttons=[],
                    elem_id="truncation",
                )
                gr.HTML(line_of_text("Click a sample to start from it."), apply_default_css=False, padding=False)
                self.samples = gr.HTML(elem_id="samples", apply_default_css=False, padding=False, js_on_load=_CHOOSE)
                upload = gr.UploadButton(
                    "Open latents (.npy)", file_types=[".npy"], type="filepath", size="sm", elem_id="upload-latents"
                )
            with gr.Column(scale=4, min_width=300, elem_id="picture-column"):
                self.picture = gr.HTML(elem_id="picture", apply_default_css=False, padding=False)
                with gr.Row(elem_id="picture-buttons"):
                    self.keep_a = gr.Button("Keep as A", size="sm", elem_id="keep-a", min_width=80)
                    self.keep_b = gr.Button("Keep as B", size="sm", elem_id="keep-b", min_width=80)
                    reset = gr.Button("Reset sliders", size="sm", elem_id="reset", min_width=80)
            with gr.Column(scale=4, min_width=300, elem_id="sliders-column"):
                self.note = gr.HTML(elem_id="directions-note", apply_default_css=False, padding=False)
                directions = latent_sliders("direction", MAX_DIRECTIONS)
                with gr.Accordion("Single dimensions of the latent", open=False, elem_id="single-dimensions"):
                    self.dimensions = gr.Textbox(
                        label=f"Dimensions (at most {MAX_DIMENSIONS})", elem_id="dimensions", max_lines=1
                    )
                    dimensions = latent_sliders("dimension", MAX_DIMENSIONS)
                if explorer.has_pictures:
                    find = gr.Button("Find the nearest training pictures", size="sm", elem_id="find-nearest")
                self.nearest = gr.HTML(elem_id="nearest", apply_default_css=False, padding=False)
        self.sliders = dimensions + directions
        self.made = [tab, self.seed, self.count, self.truncation, self.dimensions, self.samples, self.picture]
        self.made += [self.nearest, self.unknown, self.note, *self.sliders]
        fields = [pick, self.seed, self.count, self.truncation, self.dimensions, tab, self.unknown]
        # always_last: by default, Gradio drops events while an earlier one is running.
        sampling: dict[str, Any] = {"outputs": guard.outputs(self.made), "trigger_mode": "always_last"}
        sampled = guard(self._sample, self._as_shown)
        gr.on([sample.click, self.seed.submit, self.count.submit], sampled, fields, **sampling)
        self.truncation.release(sampled, fields, **sampling, show_progress="hidden")
        other.click(guard(self._another, self._as_shown), fields, **sampling)
        upload.upload(guard(self._open), [pick, upload, self.dimensions, self.unknown], **sampling)
        anchored = guard.outputs([tab, self.picture, self.nearest, *self.sliders])
        self.samples.select(guard(self._choose), [tab], anchored, queue=False, show_progress="hidden")
        reset.click(guard(self._rest), [tab], anchored, queue=False, show_progress="hidden")
        self.dimensions.submit(
            guard(self._set_dimensions), [tab, self.dimensions], anchored, trigger_mode="always_last"
        )
        self.unknown.change(
            guard(self._find),
            [tab],
            guard.outputs([self.note, *directions]),
            show_progress="minimal",
            show_progress_on=self.note,
            trigger_mode="always_last",
        )
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
        if explorer.has_pictures:
            find.click(guard(self._find_nearest), [tab, *self.sliders], guard.outputs([self.nearest]), preprocess=False)

    def latent(self, tab: Tab, positions: tuple[Any, ...]) -> tuple[ModelInfo, NDArray[np.float32]]:
        """The model, and the latent of the picture, (latent_dim,).

        Raises:
            GanClientError: There are no samples, the model is not served, or a position is invalid.
        """
        model, tab = self._informed(tab)
        return model, moved(tab, positions)

    def show(self, link: Link, dimensions_text: str, unknown: float) -> tuple[Any, ...]:
        """Fills the panel with what a link names.

        Raises:
            GanClientError: The model is not served, or cannot draw that.
        """
        model = self._explorer.find(link.model)
        latents = link.truncation * self._explorer.latents(model, link.seed, link.count)
        latents = latents.astype(np.float32)
        dimensions = dimensions_with(link, dimensions_text, model.latent_dim)
        tab = Tab(link.model, link.seed, latents, link.truncation, latents[link.row], link.row, tuple(dimensions))
        if link.directions:
            self._explorer.find_directions(model, lambda _: None)
        return self._filled(model, tab, unknown, link)

    def link_of(self, key: str, seed_text: str, count: object, truncation: object) -> Link:
        """What the fields ask for.

        Raises:
            InvalidRequest: A field is invalid.
        """
        return Link(
            key,
            seed=seed_from(seed_text),
            count=whole_number_from("samples", count, 1, MAX_SAMPLES),
            truncation=truncation_from(truncation),
        )

    def emptied(self, key: str) -> tuple[Any, ...]:
        """Empties the panel, for a model that it cannot show; the fields stay."""
        return Tab(key), *[gr.skip()] * 4, "", "", "", gr.skip(), "", *all_hidden()

    def _sample(
        self, key: str, seed_text: str, count: object, truncation: object, dimensions: str, _tab: Tab, unknown: float
    ) -> tuple[Any, ...]:
        return self.show(self.link_of(key, seed_text, count, truncation), dimensions, unknown)

    def _another(self, key: str, _seed_text: str, *fields: Any) -> tuple[Any, ...]:
        return self._sample(key, str(secrets.randbelow(_MAX_RANDOM_SEED + 1)), *fields)

    def _as_shown(self, *fields: Any) -> dict[Any, Any]:
        """Sets the fields back to the pictures on the page, when others could not be fetched."""
        tab = fields[-2]
        if tab.latents is None:
            return {}
        seed = "" if tab.seed is None else str(tab.seed)
        return {self.seed: seed, self.count: len(tab.latents), self.truncation: tab.truncation}

    def _open(self, key: str, path: str | None, dimensions_text: str, unknown: float) -> tuple[Any, ...]:
        """Shows the images of the latents in a file."""
        if path is None:
            return ()
        model = self._explorer.find(key)
        latents = read_latents(path)
        if len(latents) > MAX_SAMPLES or latents.shape[1] != model.latent_dim:
            rows, dim = latents.shape
            raise InvalidRequest(
                f"latents: the file holds {rows} of size {dim}; {key} takes latents of size {model.latent_dim}, and"
                f" this page at most {MAX_SAMPLES}"
            )
        dimensions = dimensions_from(dimensions_text, model.latent_dim, MAX_DIMENSIONS)
        tab = Tab(key, None, latents, 1.0, latents[0], 0, tuple(dimensions))
        return self._filled(model, tab, unknown, Link(key))

    def _filled(self, model: ModelInfo, tab: Tab, unknown: float, link: Link) -> tuple[Any, ...]:
        assert tab.latents is not None
        images = self._explorer.pixels(model, tab.latents)
        known = self._explorer.known_directions(model)
        latents = tab.latents
        tab = replace(tab, directions=known, ends=latents[[0, min(1, len(images) - 1)]])
        columns = grid_columns(len(images))
        what = "latents" if tab.seed is None else f"seed-{tab.seed}"
        stem = file_stem(model, what)
        command = (
            self._explorer.commands.grid(model, len(images), tab.seed, columns, f"{stem}.png")
            if tab.seed is not None and tab.truncation == 1
            else self._explorer.commands.latents(model, f"{stem}.npy", f"{stem}.png")
        )
        shown = samples(
            [png_of(image_grid(image[np.newaxis])) for image in images],
            columns,
            tab.row,
            stem,
            command,
            latents,
            png_of(image_grid(images, columns)),
        )
        positions = positions_of(tab, link.dimensions, link.directions)
        fields = "" if tab.seed is None else str(tab.seed), len(images), tab.truncation
        picture = self._figure(model, tab, positions)
        unknown += known is None
        return (
            *(tab, *fields, ", ".join(map(str, tab.dimensions)), shown, picture, "", unknown, self._note_of(tab)),
            *at_rest(tab, positions),
        )

    def _choose(self, tab: Tab, event: gr.EventData) -> tuple[Any, ...]:
        _, tab = self._informed(tab)
        assert tab.latents is not None
        row = whole_number_from("sample", event.row, 0, len(tab.latents) - 1)
        return self._rest(replace(tab, anchor=tab.latents[row], row=row))

    def _rest(self, tab: Tab) -> tuple[Any, ...]:
        model, tab = self._informed(tab)
        positions = positions_of(tab)
        return tab, self._figure(model, tab, positions), "", *at_rest(tab, positions)

    def _informed(self, tab: Tab) -> tuple[ModelInfo, Tab]:
        """The model, and the tab with the directions of the model, which are found in the background."""
        if tab.anchor is None:
            raise InvalidRequest("samples: there are none yet; press Sample first")
        model = self._explorer.find(tab.key)
        return model, replace(tab, directions=self._explorer.known_directions(model))

    def _set_dimensions(self, tab: Tab, text: str) -> tuple[Any, ...]:
        model = self._explorer.find(tab.key)
        return self._rest(replace(tab, dimensions=tuple(dimensions_from(text, model.latent_dim, MAX_DIMENSIONS))))

    def move(self, tab: Tab, *positions: Any) -> tuple[Any, ...]:
        """Generates the picture for the positions of the sliders."""
        model, tab = self._informed(tab)
        return (self._figure(model, tab, positions),)

    def _find(self, tab: Tab, progress: gr.Progress = _PROGRESS) -> tuple[Any, ...]:
        model, _ = self._informed(tab)
        try:
            found = self._explorer.find_directions(
                model, lambda done: progress(done, desc="finding the strongest directions")
            )
        except InvalidRequest as error:  # this model has none; its dimensions still have sliders
            return line_of_text(str(error)), *directions_at_rest(None)
        return self._note_of(replace(tab, directions=found)), *directions_at_rest(found)

    def _find_nearest(self, tab: Tab, *positions: Any) -> tuple[Any, ...]:
        model, latent = self.latent(tab, positions)
        return (nearest_pictures(self._explorer.nearest(model, latent, _NEAREST)),)

    def _note_of(self, tab: Tab) -> str:
        if tab.directions is None:
            return line_of_text("Finding the directions in which the pictures change most...")
        share = f"{tab.directions.linear:.0%}"
        return line_of_text(
            "The directions in which the pictures change most.",
            "Percentages are shares of the linear response, which explains"
            f" {share} of the images' odd variance; docs/explorer.md says how they are found.",
        )

    def _figure(self, model: ModelInfo, tab: Tab, positions: tuple[Any, ...]) -> str:
        latent = moved(tab, positions)[np.newaxis]
        stem = file_stem(model, "picture")
        command = self._explorer.commands.latents(model, f"{stem}.npy", f"{stem}.png")
        [file] = self._explorer.files(model, latent)
        query = ""
        if tab.seed is not None and tab.latents is not None:
            dimensions, directions = moves(tab, positions)
            count = len(tab.latents)
            link = Link(
                tab.key,
                seed=tab.seed,
                count=count,
                truncation=tab.truncation,
                row=tab.row,
                dimensions=dimensions,
                directions=directions,
            )
            query = link.query()
        return figure(file, stem, "the starting picture, changed by the sliders", command, latent, query)
