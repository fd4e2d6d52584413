"""`python -m benchmarks.claims`: tests claims about GANs by training and measuring."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from benchmarks.claims.statistics import interval, shown
from benchmarks.claims.subjects import Scale, Setting, images_name
from ganserve.command_line import fail
from ganserve.files import replace_file
from trainer.config import DeviceName
from trainer.errors import UserError
from trainer.exits import EXIT_INTERRUPTED, StopOnSignal, mistakes_in_one_line
from trainer.progress import Progress

if TYPE_CHECKING:
    from benchmarks.claims.outcomes import Outcome

_MOST_SEEDS = 100
_INTERRUPTED = "interrupted; the runs are kept, and the same command continues"


@click.command(context_settings={"max_content_width": 100, "show_default": True})
@click.option("--claims", "wanted", default="all", help="Claims to test, such as C1,C6, or all.", metavar="IDS")
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"), help="Folder to search for runs.")
@click.option("--train", is_flag=True, help="Train missing runs into RUNS/claims.")
@click.option(
    "--scale",
    type=click.Choice(["quick", "full"]),
    default="quick",
    help="Short runs of narrow networks, or the settings of the sources.",
)
@click.option("--seeds", type=click.IntRange(1, _MOST_SEEDS), default=3, help="Runs per recipe, with seeds 0, 1, ...")
@click.option("--data-root", default="data", help="Folder of mnist and fashion-mnist; missing files are downloaded.")
@click.option("--anime", help="Images of faces, for C2 to C5, C10 and C12: a folder or zip file.", metavar="PATH")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("claims.html"),
    help="Page to write; the JSON file goes next to it.",
)
@click.option("--list", "list_claims", is_flag=True, help="Print the claims and exit.")
def main(*, list_claims: bool, **flags: Any) -> None:
    """Tests claims about GANs: trains what each claim needs, measures it, and prints a verdict.

    After a stop or a kill, the same command continues.
    """
    progress = Progress()
    with mistakes_in_one_line(_INTERRUPTED):
        if list_claims:
            _list(progress)
        else:
            _run(progress, **flags)


def _list(progress: Progress) -> None:
    from benchmarks.claims.claims import CLAIMS

    for claim in CLAIMS.values():
        progress.say(f"{claim.id:4} {claim.sentence} ({claim.source})")


def _run(
    progress: Progress,
    *,
    wanted: str,
    runs: Path,
    train: bool,
    scale: Scale,
    seeds: int,
    data_root: str,
    anime: str | None,
    device: DeviceName,
    out: Path,
) -> None:
    from benchmarks.claims.claims import CLAIMS, choose_claims

    claims = choose_claims(wanted)
    if out.suffix not in {".html", ".json"}:
        raise UserError(f"--out {out}: give a name that ends in .html or .json; both files are written")
    if not out.absolute().parent.is_dir():
        raise UserError(f"--out {out}: no such folder: {out.parent}; create it first")
    if anime is not None:
        anime = images_name(anime)
    from benchmarks.claims.claims_page import claims_page
    from benchmarks.claims.collect import Collector, Interrupted
    from benchmarks.claims.outcomes import LABELS, outcome_of, to_json
    from trainer.report.page import write_page

    setting = Setting(scale, anime, data_root, device)
    progress.say(f"{len(claims)} of {len(CLAIMS)} claims, {seeds} seed{'s' * (seeds > 1)}; {LABELS[scale]}")
    with StopOnSignal() as stop:
        collector = Collector(runs, setting, range(seeds), train, progress, stop)
        try:
            evidence = collector.collect(claims)
        except Interrupted:
            fail(_INTERRUPTED, EXIT_INTERRUPTED)
    outcomes = [outcome_of(claim, evidence, collector.missing, setting) for claim in claims]
    replace_file(out.with_suffix(".json"), to_json(outcomes, evidence, setting))
    write_page(claims_page(outcomes, evidence, setting), out.with_suffix(".html"))
    _print(outcomes, LABELS[scale], progress)
    progress.say(f"effects and values per seed: {out.with_suffix('.html')} and {out.with_suffix('.json')}")
    if collector.missing and not train:
        progress.say("add --train to train missing runs")


def _print(outcomes: Sequence[Outcome], label: str, progress: Progress) -> None:
    table = Table(title=f"Verdicts ({label})")
    for heading in ("claim", "sentence", "verdict", "reason", "deciding effect", "estimate", "95 % interval", "g"):
        table.add_column(heading, overflow="fold")
    for outcome in outcomes:
        deciding = [effect for effect in outcome.effects if effect.decides]
        first = [outcome.claim.id, outcome.claim.sentence, outcome.verdict, outcome.why]
        if not deciding:
            table.add_row(*first, *["-"] * 4)
        for index, effect in enumerate(deciding):
            cells = [shown(effect.estimate), interval(effect), shown(effect.standardised)]
            table.add_row(*(first if index == 0 else [""] * 4), effect.name, *cells)
        table.add_section()
    progress.console.print(table)


if __name__ == "__main__":
    main()
