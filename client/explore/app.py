"""The page: the model picker, the banners and the panels. Follows the server when it stops, returns or changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import gradio as gr

from client.errors import InvalidRequest
from client.explore.compare_panel import ComparePanel
from client.explore.explorer import Explorer
from client.explore.guard import Guard, Handler, WithBanner
from client.explore.html import line_of_error, line_of_text
from client.explore.morph_panel import MorphPanel
from client.explore.samples_panel import SamplesPanel
from client.explore.sheet_panel import SheetPanel
from client.explore.sliders import all_hidden
from client.explore.tab import Tab
from client.explore.translate_panel import TranslatePanel
from client.explore.watch import Served, gone, key_of
from client.sdk.model_info import ModelInfo
from ganserve.traversal import usual_dimensions

MAX_TABS: Final = 64  # browser tabs whose state is kept

_CHECK_EVERY_S: Final = 2.0
_PANELS: Final = ("explore", "morph", "traversal", "compare", "translate")


@dataclass(frozen=True)
class Seen:
    """What a browser tab last knew about the server; see `Served`."""

    troubles: int | None = None
    keys: tuple[str, ...] = ()


class Page:
    """Builds the page."""

    def __init__(self, explorer: Explorer) -> None:
        self._explorer = explorer
        with gr.Blocks(analytics_enabled=False, title="ganserve explorer", delete_cache=(600, 3600)) as self.blocks:
            self._build()
        self.blocks.state_session_capacity = MAX_TABS

    def _build(self) -> None:
        tab, seen = gr.State(Tab()), gr.State(Seen())
        returns = gr.Number(0, visible="hidden")  # how often the server has returned; a State has no change event
        with gr.Row():
            pick = gr.Dropdown([], label="Model and version", elem_id="model", scale=4, min_width=200)
            refresh = gr.Button("Refresh", elem_id="refresh", scale=0, min_width=110)
        about = gr.HTML(elem_id="about", apply_default_css=False)
        server_banner = gr.HTML(elem_id="server-banner", apply_default_css=False)
        banner = gr.HTML(elem_id="banner", apply_default_css=False)
        guard = Guard(self._explorer.watch, banner, server_banner)
        with gr.Tabs(selected="explore", elem_id="tabs") as tabs:
            panels = [gr.Tab(name.capitalize(), id=name, elem_id=f"tab-{name}") for name in _PANELS]
            with panels[0]:
                samples = SamplesPanel(self._explorer, guard, pick, tab)
            with panels[1]:
                morph = MorphPanel(self._explorer, guard, tab, samples)
            with panels[2]:
                sheet = SheetPanel(self._explorer, guard, pick)
            with panels[3]:
                compare = ComparePanel(self._explorer, guard, pick)
            with panels[4]:
                translate = TranslatePanel(self._explorer, guard, pick)
        asked = gr.Number(0, visible="hidden")  # counts clicks on Refresh
        refresh.click(self._refresh_now, asked, asked, queue=False, show_progress="hidden", trigger_mode="multiple")
        # One event, so that Gradio never runs it twice at once: two simultaneous results leave the picker empty.
        gr.on(
            [self.blocks.load, asked.change, gr.Timer(_CHECK_EVERY_S).tick],
            self._refresh,
            [pick, compare.other, seen, returns],
            [pick, compare.other, seen, returns, server_banner],
            queue=False,
            show_progress="hidden",
            trigger_mode="always_last",
        )
        made = [tab, samples.samples, samples.picture, samples.note, *samples.sliders]
        made += [morph.ends, morph.picture, morph.strip, sheet.sheet]
        fields = [tabs, about, samples.dimensions, sheet.dimensions]
        pick.change(
            guard(self._picked(samples)),
            [pick, samples.seed, samples.count],
            guard.outputs([*fields, *made]),
            show_progress="hidden",
        )
        panels[1].select(**morph.ends_event)
        moved = {"fn": guard(self._move_again(samples)), "inputs": [pick, *samples.move_event["inputs"]]}
        returns.change(**samples.move_event | moved)
        filled = returns.change(
            guard(self._picked_while_gone(samples)),
            [pick, samples.seed, samples.count, tab],
            guard.outputs([*fields, *made]),
            show_progress="hidden",
        )
        filled.success(
            **translate.event | {"fn": guard(self._if_translator(translate))},
            trigger_mode="multiple",
        )

    def _refresh_now(self, asked: float) -> float:
        self._explorer.watch.forget()
        return asked + 1

    def _refresh(self, picked: str | None, other_key: str | None, seen: Seen, returns: float) -> tuple[Any, ...]:
        return lists_of(self._explorer.watch.snapshot(), picked, other_key, seen, returns)

    def _picked(self, samples: SamplesPanel) -> Handler:
        """Fills the page for another model in one event, because Gradio loses parts of a chain of events."""

        def picked(key: str | None, seed: str, count: object) -> tuple[Any, ...]:
            if not key:
                return ()
            model = self._explorer.watch.find(key)
            translates = model.task == "translate"
            dimensions = "" if translates else ", ".join(map(str, usual_dimensions(model.latent_dim)))
            fields = gr.update(selected="translate" if translates else "explore"), line_of_text(_about(model))
            sampled: tuple[Any, ...] = (Tab(key), "", "", "", *all_hidden())
            trouble = ""
            if not translates:
                try:
                    sampled = samples.sample(key, seed, count, dimensions)
                except InvalidRequest as error:  # a field is invalid; still clear the output of the previous model
                    trouble = str(error)
            return WithBanner((*fields, dimensions, dimensions, *sampled, "", "", "", ""), trouble)

        return picked

    def _picked_while_gone(self, samples: SamplesPanel) -> Handler:
        """Fills the page for the picked model if it was picked while the server was gone."""
        picked = self._picked(samples)

        def picked_while_gone(key: str | None, seed: str, count: object, tab: Tab) -> tuple[Any, ...]:
            is_missed = key and key != tab.key and _is_there(key, self._explorer.watch.snapshot())
            return picked(key, seed, count) if is_missed else ()

        return picked_while_gone

    def _move_again(self, samples: SamplesPanel) -> Handler:
        def move(key: str | None, tab: Tab, *positions: Any) -> tuple[Any, ...]:
            is_there = key == tab.key and _is_there(tab.key, self._explorer.watch.snapshot())
            return samples.move(tab, *positions) if is_there and tab.anchor is not None else ()

        return move

    def _if_translator(self, translate: TranslatePanel) -> Handler:
        def again(key: str | None, path: str | None) -> tuple[Any, ...]:
            is_wanted = path and self._explorer.watch.find(key or "").task == "translate"
            return translate.translate(key or "", path) if is_wanted else ()

        return again


def lists_of(served: Served, picked: str | None, other_key: str | None, seen: Seen, returns: float) -> tuple[Any, ...]:
    """Updates the model lists; a selected model stays selected even if it is no longer served.

    Args:
        served: The latest snapshot.
        picked: The selected model.
        other_key: The selected model of the Compare tab.
        seen: What the browser tab last knew.
        returns: How often the server has come back.

    Returns:
        Updates of the last four arguments, and the server banner.
    """
    keys = tuple(map(key_of, served.models))
    if served.trouble:
        return gr.skip(), gr.skip(), seen, returns, line_of_error(served.trouble)
    generators = [key_of(model) for model in served.models if model.task == "generate"]
    key = picked or next(iter([*generators, *keys]), None)
    listed = gr.skip() if keys == seen.keys and key == picked else _choices(keys, key)
    other_key = other_key or next((other for other in generators if other != key), key)
    others = gr.skip() if keys == seen.keys else _choices(generators, other_key if other_key in generators else None)
    returned = returns + (seen.troubles not in (None, served.troubles))
    return listed, others, Seen(served.troubles, keys), returned, line_of_error(_missing(key, served))


def _choices(keys: Sequence[str], value: str | None) -> Any:
    extra = [] if value is None or value in keys else [value]  # Gradio raises for a value that is not among them
    return gr.update(choices=[*keys, *extra], value=value)


def _missing(key: str | None, served: Served) -> str:
    if not key:
        return "The server has no models. Load one, and it appears here."
    return "" if _is_there(key, served) else gone(key, served.models)


def _is_there(key: str, served: Served) -> bool:
    return any(key_of(model) == key for model in served.models)


def _about(model: ModelInfo) -> str:
    taken = (
        f"{model.input_width}x{model.input_height}x{model.input_channels} images"
        if model.task == "translate"
        else f"latents of {model.latent_dim}"
    )
    trained = " on ".join(part for part in (model.kind, model.dataset) if part) or "imported"
    return f"{trained}; {taken} to {model.width}x{model.height}x{model.channels}; {model.backend} on {model.device}"
