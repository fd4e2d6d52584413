"""The Morph tab: interpolates from latent A to latent B."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from client.errors import InvalidRequest
from client.explore.commands_text import file_stem
from client.explore.explorer import Explorer
from client.explore.fields import value_from, whole_number_from
from client.explore.guard import Guard
from client.explore.html import animation, figure, line_of_text, plain_picture, png_of, side_by_side
from client.explore.samples_panel import SamplesPanel
from client.explore.tab import Tab
from client.files.animation import animation_bytes, animation_scale, available_formats
from client.sdk import walks
from client.sdk.model_info import ModelInfo
from ganserve.grids import image_grid

MAX_STEPS: Final = 64

MAX_STOPS: Final = 6  # of an animation through samples

_SPHERICAL: Final = "spherical"
_ENDS: Final = "A and B"
_SAMPLES: Final = f"the first {MAX_STOPS} samples"
_ANIMATION_STEPS: Final = 20  # from stop to stop, with both ends
_FRAMES_PER_SECOND: Final = 20


class MorphPanel:
    """The contents of the Morph tab; A and B come from the samples panel."""

    def __init__(self, explorer: Explorer, guard: Guard, tab: gr.State, samples_panel: SamplesPanel) -> None:
        self._explorer = explorer
        self._samples_panel = samples_panel
        formats = available_formats()
        introduction = "A and B are the first two samples, unless you keep others in the Explore tab."
        gr.HTML(line_of_text(introduction), apply_default_css=False, padding=False)
        with gr.Row(elem_id="morph-row"):
            with gr.Column(scale=4, min_width=280):
                self.ends = gr.HTML(elem_id="ends", apply_default_css=False, padding=False)
                self.fraction = gr.Slider(
                    0, 1, 0.5, step=0.01, label="From A (0) to B (1)", buttons=[], elem_id="fraction"
                )
                self.way = gr.Radio(
                    [_SPHERICAL, "linear"],
                    value=_SPHERICAL,
                    label="Interpolation",
                    info="Spherical keeps the length of the latents; linear passes nearer to the average picture.",
                    elem_id="way",
                )
            with gr.Column(scale=4, min_width=280):
                self.picture = gr.HTML(elem_id="morph", apply_default_css=False, padding=False)
        with gr.Row(elem_classes="fields"):
            steps = gr.Number(9, label="Pictures from A to B", precision=0, elem_id="steps", min_width=120)
            strip = gr.Button("Make a strip", elem_id="make-strip", scale=0, min_width=120)
        self.strip = gr.HTML(elem_id="strip", apply_default_css=False, padding=False)
        with gr.Row(elem_classes="fields"):
            through = gr.Radio([_ENDS, _SAMPLES], value=_ENDS, label="Animation through", elem_id="through")
            format_ = gr.Radio(formats, value=formats[0], label="Format", elem_id="format", visible=len(formats) > 1)
            animate = gr.Button("Make an animation", elem_id="make-animation", scale=0, min_width=150)
        self.animation = gr.HTML(elem_id="animation", apply_default_css=False, padding=False)
        shown = gr.Number(0, visible="hidden")  # counts how often A and B were shown
        # One event, so that Gradio never runs it twice at once: the older picture could arrive last and stay.
        gr.on(
            [self.fraction.input, self.way.input, shown.change],
            guard(self._move),
            [tab, self.way, self.fraction],
            guard.outputs([self.picture]),
            preprocess=False,
            queue=False,
            show_progress="hidden",
            trigger_mode="always_last",
        )
        self.ends_event: dict[str, Any] = {
            "fn": guard(self._show_ends),
            "inputs": [tab, shown],
            "outputs": guard.outputs([self.ends, self.strip, self.animation, shown]),
            "preprocess": False,
            "queue": False,
            "show_progress": "hidden",
            "trigger_mode": "multiple",
        }
        for index, button in enumerate((samples_panel.keep_a, samples_panel.keep_b)):
            keep = guard(partial(self._keep, index))
            kept = button.click(
                keep, [tab, *samples_panel.sliders], guard.outputs([tab]), preprocess=False, queue=False
            )
            kept.success(**self.ends_event)
        strip.click(guard(self._strip), [tab, self.way, steps], guard.outputs([self.strip]), trigger_mode="always_last")

        animate.click(
            guard(self._animate),
            [tab, self.way, through, format_],
            guard.outputs([self.animation]),
            trigger_mode="always_last",
        )

    def _keep(self, index: int, tab: Tab, *positions: Any) -> tuple[Any, ...]:
        _, latent = self._samples_panel.latent(tab, positions)
        ends = np.stack([latent, latent]) if tab.ends is None else tab.ends.copy()
        ends[index] = latent
        return (replace(tab, ends=ends),)

    def _show_ends(self, tab: Tab, shown: float) -> tuple[Any, ...]:
        """Shows A and B; the change of `shown` then triggers the picture in between."""
        model, ends = self._found(tab)
        pair = [plain_picture(file, name) for file, name in zip(self._explorer.files(model, ends), "AB", strict=True)]
        return side_by_side(pair), "", "", shown + 1

    def _move(self, tab: Tab, method: str, fraction: object) -> tuple[Any, ...]:
        model, ends = self._found(tab)
        latent = _between(method)(ends[0], ends[1], [value_from("from A to B", fraction)])
        stem = file_stem(model, "morph")
        command = self._explorer.commands.latents(model, f"{stem}.npy", f"{stem}.png")
        [file] = self._explorer.files(model, latent)
        return (figure(file, stem, "between A and B", command, latent),)

    def _strip(self, tab: Tab, method: str, steps_text: object) -> tuple[Any, ...]:
        model, ends = self._found(tab)
        steps = whole_number_from("steps", steps_text, 2, MAX_STEPS)
        latents = walks.walk(ends, steps, "spherical" if method == _SPHERICAL else "linear")
        images = self._explorer.pixels(model, latents)
        stem = file_stem(model, "strip")
        command = self._explorer.commands.interpolate(model, f"{stem}.npy", steps, method != _SPHERICAL, f"{stem}.png")
        return (figure(png_of(image_grid(images, steps)), stem, "the interpolation from A to B", command, ends),)

    def _animate(self, tab: Tab, method: str, through: str, format_: str) -> tuple[Any, ...]:
        """A walk that returns to its start, as a file that loops without a jump."""
        model, ends = self._found(tab)
        stops = ends if through == _ENDS or tab.latents is None else tab.latents[:MAX_STOPS]
        if len(stops) < 2:
            raise InvalidRequest("animation: needs at least 2 samples; ask for more in the Explore tab")
        latents = walks.walk(stops, _ANIMATION_STEPS, "spherical" if method == _SPHERICAL else "linear", loop=True)
        images = self._explorer.pixels(model, latents)
        scale = animation_scale(model.width, model.height)
        frames = (image.repeat(scale, axis=0).repeat(scale, axis=1) for image in images)
        suffix = f".{format_.lower()}"
        file = animation_bytes(frames, suffix, _FRAMES_PER_SECOND)
        stem = file_stem(model, "walk")
        command = self._explorer.commands.animation(
            model, f"{stem}.npy", _ANIMATION_STEPS, method != _SPHERICAL, f"{stem}{suffix}"
        )
        return (animation(file, suffix, stem, command, stops),)

    def _found(self, tab: Tab) -> tuple[ModelInfo, NDArray[np.float32]]:
        if tab.ends is None:
            raise InvalidRequest("A and B: do not exist yet; press Sample in the Explore tab first")
        return self._explorer.find(tab.key), tab.ends


def _between(method: str) -> Callable[..., NDArray[np.float32]]:
    return walks.spherical if method == _SPHERICAL else walks.linear
