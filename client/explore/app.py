"""The page: the model picker, the banners and the panels. Follows the server when it stops, returns or changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import gradio as gr

from client.errors import InvalidRequest
from client.explore.compare_panel import ComparePanel
from client.explore.explorer import Explorer
from client.explore.guard import Guard, Handler, WithBanner
from client.explore.html import line_of_error, line_of_text, page_header, server_down, tab_list
from client.explore.link import TABS, link_from, link_to_model
from client.explore.morph_panel import MorphPanel
from client.explore.samples_panel import SamplesPanel
from client.explore.sheet_panel import SheetPanel
from client.explore.tab import Tab
from client.explore.translate_panel import TranslatePanel
from client.explore.watch import Served, about, gone, key_of
from ganserve.traversal import usual_dimensions

MAX_TABS: Final = 64  # browser tabs whose state is kept

_CHECK_EVERY_S: Final = 2.0
_INTRODUCTION: Final = "See what a trained model draws, and change its pictures."
_WITH_QUERY: Final = "(...fields) => [...fields.slice(0, -1), window.location.search]"


@dataclass(frozen=True)
class Seen:
    """What a browser tab last knew about the server; see `Served`, and `tabs_for`."""

    troubles: int | None = None
    keys: tuple[str, ...] = ()
    tabs: tuple[str, ...] = ()


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
        query = gr.Textbox("", visible="hidden")  # of the page's address
        linked = gr.Textbox("", visible="hidden")  # the query of a link that is still to be shown
        gr.HTML(page_header(_INTRODUCTION, self._explorer.commands.place), apply_default_css=False, padding=False)
        with gr.Row(elem_id="picking"):
            pick = gr.Dropdown([], label="Model and version", elem_id="model", scale=4, min_width=200)
            refresh = gr.Button("Refresh", elem_id="refresh", scale=0, min_width=90)
        about_model = gr.HTML(elem_id="about", apply_default_css=False, padding=False)
        server_banner = gr.HTML(elem_id="server-banner", apply_default_css=False, padding=False)
        banner = gr.HTML(elem_id="banner", apply_default_css=False, padding=False)
        # Lists the tabs for page.css, which hides the others: Gradio shows hidden fields together with their tab.
        listed_tabs = gr.HTML(elem_id="listed-tabs", apply_default_css=False, padding=False)
        guard = Guard(self._explorer.watch, banner, server_banner)
        with gr.Tabs(selected="explore", elem_id="tabs") as tabs:
            panels = [gr.Tab(name.capitalize(), id=name, elem_id=f"tab-{name}") for name in TABS]
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
            [pick, compare.other, seen, returns, query],
            [pick, compare.other, seen, returns, server_banner, linked, listed_tabs],
            js=_WITH_QUERY,
            queue=False,
            show_progress="hidden",
            trigger_mode="always_last",
        )
        made = [linked, tabs, listed_tabs, about_model, sheet.dimensions, *samples.made]
        made += [morph.ends, morph.picture, morph.strip, morph.animation]
        made += [sheet.sheet, sheet.drawn, compare.pair, compare.drawn]
        filling = [pick, samples.seed, samples.count, samples.truncation, samples.unknown, linked]
        pick.change(guard(self._picked(samples)), filling, guard.outputs(made), show_progress="hidden")
        panels[1].select(**morph.ends_event)
        panels[2].select(**sheet.open_event)
        panels[3].select(**compare.open_event)
        moved = {"fn": guard(self._move_again(samples)), "inputs": [pick, *samples.move_event["inputs"]]}
        returns.change(**samples.move_event | moved)
        filled = returns.change(
            guard(self._picked_while_gone(samples)), [*filling, tab], guard.outputs(made), show_progress="hidden"
        )
        filled.success(
            **translate.event | {"fn": guard(self._if_translator(translate))},
            trigger_mode="multiple",
        )

    def _refresh_now(self, asked: float) -> float:
        self._explorer.watch.forget()
        return asked + 1

    def _refresh(
        self, picked: str | None, other_key: str | None, seen: Seen, returns: float, query: str
    ) -> tuple[Any, ...]:
        return lists_of(self._explorer.watch.snapshot(), picked, other_key, seen, returns, query)

    def _picked(self, samples: SamplesPanel) -> Handler:
        """Fills the page for another model in one event, because Gradio loses parts of a chain of events."""

        def picked(
            key: str | None, seed: str, count: object, truncation: object, unknown: float, linked: str
        ) -> tuple[Any, ...]:
            if not key:
                return ()
            model = self._explorer.watch.find(key)
            panels = tabs_for(key, self._explorer.watch.snapshot())
            dimensions = ""
            opened = "translate"
            sampled: tuple[Any, ...] = samples.emptied(key)
            trouble = ""
            if model.task != "translate":
                dimensions = ", ".join(map(str, usual_dimensions(model.latent_dim)))
                opened = "explore"
                try:
                    link = link_from(linked) if linked else samples.link_of(key, seed, count, truncation)
                    opened = link.tab if link.tab in panels else opened
                    sampled = samples.show(replace(link, model=key), dimensions, unknown)
                except InvalidRequest as error:  # a field is invalid; still clear the output of the previous model
                    trouble = str(error)
            fields = (
                "",
                gr.update(selected=opened),
                tab_list(panels, link_to_model(key)),
                line_of_text(about(model)),
                dimensions,
            )
            return WithBanner((*fields, *sampled, "", "", "", "", "", "", "", ""), trouble)

        return picked

    def _picked_while_gone(self, samples: SamplesPanel) -> Handler:
        """Fills the page for the picked model if it was picked while the server was gone."""
        picked = self._picked(samples)

        def picked_while_gone(key: str | None, *fields: Any) -> tuple[Any, ...]:
            is_missed = key and key != fields[-1].key and _is_there(key, self._explorer.watch.snapshot())
            return picked(key, *fields[:-1]) if is_missed else ()

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


def lists_of(
    served: Served, picked: str | None, other_key: str | None, seen: Seen, returns: float, query: str = ""
) -> tuple[Any, ...]:
    """Updates the model lists; a selected model stays selected even if it is no longer served.

    Args:
        served: The latest snapshot.
        picked: The selected model.
        other_key: The selected model of the Compare tab.
        seen: What the browser tab last knew.
        returns: How often the server has come back.
        query: The query string of the page's address; shown once, when no model is selected yet.

    Returns:
        Updates of `picked`, `other_key`, `seen` and `returns`, the server banner, the link to show, and the tabs.
    """
    keys = tuple(map(key_of, served.models))
    if served.trouble:
        down = server_down(served.trouble, served.remedy)
        return gr.skip(), gr.skip(), seen, returns, down, gr.skip(), gr.skip()
    generators = [key_of(model) for model in served.models if model.task == "generate"]
    wanted = "" if picked else _model_in(query)
    key = picked or wanted or next(iter([*generators, *keys]), None)
    listed = gr.skip() if keys == seen.keys and key == picked else _choices(keys, key)
    if other_key is None or other_key == key:
        other_key = next((other for other in generators if other != key), None)
        others = _choices(generators, other_key)
    else:
        others = gr.skip() if keys == seen.keys else _choices(generators, other_key)
    returned = returns + (seen.troubles not in (None, served.troubles))
    panels = tabs_for(key, served)
    tabs = gr.skip() if panels == seen.tabs else tab_list(panels, link_to_model(key or ""))
    linked = query if wanted else gr.skip()
    after = Seen(served.troubles, keys, panels)
    return listed, others, after, returned, line_of_error(_missing(key, served)), linked, tabs


def tabs_for(key: str | None, served: Served) -> tuple[str, ...]:
    """Those of TABS that have something to show: for the task of the model, and Compare with a second generator."""
    task = next((model.task for model in served.models if key_of(model) == key), "generate")
    if task == "translate":
        return ("translate",)
    generators = sum(model.task == "generate" for model in served.models)
    return tuple(name for name in TABS if name != "translate" and (name != "compare" or generators > 1))


def _model_in(query: str) -> str:
    try:
        return link_from(query).model
    except InvalidRequest:  # said when the first model is shown
        return ""


def _choices(keys: Sequence[str], value: str | None) -> Any:
    extra = [] if value is None or value in keys else [value]  # Gradio raises for a value that is not among them
    return gr.update(choices=[*keys, *extra], value=value)


def _missing(key: str | None, served: Served) -> str:
    if not key:
        return "The server has no models. Load one, and it appears here."
    return "" if _is_there(key, served) else gone(key, served.models)


def _is_there(key: str, served: Served) -> bool:
    return any(key_of(model) == key for model in served.models)
