"""The subcommand that measures: what it shows, what it writes, and how it fails."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from rich.console import Console

from ganserve.bundle import CARD_FILE, Card, Fidelity, read_card
from server.__main__ import main
from server.config import ServerConfig
from server.engines.base import usable_cores
from server.engines.layouts import automatic_layout, bf16_layout, bf16_layouts, cpu_layouts
from server.engines.profile import Layout, Measured, read_profile
from server.errors import StartupError
from server.scheduling.instances import Instance
from server.tuning.tune import Plan, plan_layouts, tune
from tests.server.scheduling.fake_instances import Cost, FakeTime
from tests.server.tiny_bundles import publish_tiny_bundle


def rows_cost(row_s: float, bf16: float = 1.0) -> Cost:
    def cost(layout: Layout, rows: int) -> float:
        return rows * row_s * (bf16 if layout.precision == "bf16" else 1.0) * (0.3 + 0.7 / layout.threads)

    return cost


class Tuning:
    """Tunes a repository with instances that cost fake time."""

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self.world = FakeTime()
        self.costs: dict[str, Cost] = {}
        self.began: dict[str, float] = {}
        self.without_memory: set[str] = set()

    def run(self, out: Path, *names: str, seconds: float = 1.0, bf16: bool = False) -> str:
        """Returns what it shows."""
        shown = io.StringIO()

        def plan(folder: Path, card: Card, config: ServerConfig) -> Plan:
            self.began[card.name] = self.world.now
            load = self.world.loader(self.costs.get(card.name, rows_cost(1e-3)))
            cores = usable_cores()

            def find_variants(table: Sequence[Measured], left_out: Mapping[Layout, int]) -> Sequence[Layout]:
                return bf16_layouts(table, cores, left_out)

            def fail(_: Layout) -> list[Instance]:
                raise RuntimeError("CUDA out of memory\nat layer 1")

            load = fail if card.name in self.without_memory else load
            return Plan("cpu", cpu_layouts(cores), load, find_variants if bf16 else None)

        console = Console(file=shown, width=200)
        tune(self.config, names, seconds, out, console=console, plan_model=plan, bench=self.world.bench)
        return shown.getvalue()


@pytest.fixture
def tuning(config: ServerConfig) -> Tuning:
    return Tuning(config)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "profile.json"


def command(*flags: str) -> Any:
    return CliRunner().invoke(main, flags, prog_name="python -m server")


def test_the_command_measures_a_real_bundle_and_writes_a_profile(repository: Path, out: Path) -> None:
    result = command("tune", "--models", str(repository), "--device", "cpu", "--seconds", "0.2", "--out", str(out))
    assert result.exit_code == 0, result.output
    profile = read_profile(out)
    assert profile.machine.cores == usable_cores()
    assert profile.machine.processor
    assert profile.machine.onnxruntime[0].isdigit()
    tuned = profile.models["tiny"]
    assert tuned.sha256 == read_card(repository / "tiny" / "1").files["model.onnx"]
    assert (tuned.device, tuned.precision, tuned.limits.large_rows) == ("cpu", "fp32", None)
    assert {cell.rows for cell in profile.measured["tiny"]} >= {1}
    assert "tiny: images/s" in result.stdout
    serve = f"python -m server --models {repository} --device cpu --profile {out}"
    assert serve in " ".join(result.stdout.split())


def test_the_table_marks_the_best_and_a_line_says_what_was_chosen_and_why(tuning: Tuning, out: Path) -> None:
    shown = tuning.run(out)
    assert shown.count("*") == 1
    (chosen,) = [line for line in shown.splitlines() if line.startswith("tiny: ")]
    tuned = read_profile(out).models["tiny"]
    assert chosen.startswith(f"tiny: {Layout('onnx', 'fp32', tuned.engines, tuned.threads)}, ")
    assert "--precision" not in shown


def test_bf16_that_pays_is_told_of_and_how_to_use_it(tuning: Tuning, out: Path) -> None:
    tuning.costs["tiny"] = rows_cost(20e-3, bf16=0.1)
    shown = tuning.run(out, seconds=20.0, bf16=True)
    assert read_profile(out).models["tiny"].precision == "bf16"
    assert "With --precision bf16, large batches of tiny are computed faster." in shown
    assert f"bf16 {usable_cores()} x 1" in shown


@pytest.mark.parametrize(
    ("published", "torch", "measured"), [(True, True, True), (False, True, False), (True, False, False)]
)
def test_bf16_is_measured_as_it_would_be_served_if_the_bundle_and_the_machine_have_it(
    repository: Path,
    config: ServerConfig,
    monkeypatch: pytest.MonkeyPatch,
    published: bool,
    torch: bool,
    measured: bool,
) -> None:
    monkeypatch.setattr("server.tuning.tune.importlib.util.find_spec", lambda _: object() if torch else None)
    folder = repository / "tiny" / "1"
    fidelity = Fidelity(images=1, within_one_level=1.0, largest_level_difference=0, psnr_db=60.0, published=published)
    card = msgspec.structs.replace(read_card(folder), variants={"bf16": fidelity})
    plan = plan_layouts(folder, card, config)
    assert {layout.precision for layout in plan.layouts} == {"fp32"}
    assert (plan.find_variants is not None) == measured
    if plan.find_variants is not None:
        automatic = automatic_layout(usable_cores())
        assert plan.find_variants(
            [Measured(automatic, automatic.engines, 1, 10.0), Measured(automatic, 1, 1, 9.0)], {}
        ) == [bf16_layout(automatic)]


def test_the_time_is_split_fairly_over_the_models(tuning: Tuning, repository: Path, out: Path) -> None:
    publish_tiny_bundle(repository, "other")
    tuning.costs["other"] = rows_cost(0.02)
    tuning.run(out, seconds=8.0)
    assert tuning.began["other"] == 0.0
    assert tuning.began["tiny"] == pytest.approx(4.0, abs=1.5)
    assert tuning.world.now == pytest.approx(8.0, abs=0.5)
    profile = read_profile(out)
    assert set(profile.models) == set(profile.measured) == {"tiny", "other"}
    assert len(profile.measured["other"]) < len(profile.measured["tiny"])


def test_only_the_models_asked_for_are_measured(tuning: Tuning, repository: Path, out: Path) -> None:
    publish_tiny_bundle(repository, "other")
    tuning.run(out, "other")
    assert set(read_profile(out).models) == {"other"}


def test_models_for_which_no_time_is_left_are_named(tuning: Tuning, repository: Path, out: Path) -> None:
    publish_tiny_bundle(repository, "a-slow-one")
    tuning.costs["a-slow-one"] = rows_cost(100.0)
    shown = tuning.run(out)
    assert set(read_profile(out).models) == {"a-slow-one"}
    assert "no time was left for tiny: raise --seconds, or --model tiny" in shown


def test_time_that_runs_out_limits_no_batches_and_is_told_of(tuning: Tuning, out: Path) -> None:
    tuning.costs["tiny"] = lambda layout, rows: 0.01 + rows * 0.01 / layout.threads
    shown = tuning.run(out, seconds=0.5)
    profile = read_profile(out)
    assert max(cell.rows for cell in profile.measured["tiny"]) < 64
    assert profile.models["tiny"].limits.max_batch_rows == 64
    assert "there was no time to measure all batch sizes: raise --seconds" in shown
    assert "--seconds" not in tuning.run(out, seconds=500.0)


def test_a_model_that_the_runtime_has_no_memory_for_is_one_line_and_the_others_are_measured(
    tuning: Tuning, repository: Path, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish_tiny_bundle(repository, "a-large-one")
    tuning.without_memory.add("a-large-one")
    tuning.run(out)
    assert set(read_profile(out).models) == {"tiny"}
    (message,) = caplog.messages
    assert message.startswith(
        "a-large-one:1 is broken and not measured: loading it failed (RuntimeError: CUDA out of memory); see"
    )
    assert "\n" not in message


def test_the_newest_version_that_works_is_measured(
    tuning: Tuning, repository: Path, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (publish_tiny_bundle(repository, version=2) / CARD_FILE).write_text("{")
    with caplog.at_level(logging.WARNING):
        tuning.run(out)
    assert read_profile(out).models["tiny"].sha256 == read_card(repository / "tiny" / "1").files["model.onnx"]
    assert caplog.messages[0].startswith("tiny:2 is broken and not measured: ")


def test_batches_are_never_measured_above_the_limit(repository: Path, out: Path, config: ServerConfig) -> None:
    flags = ["tune", "--models", str(repository), "--device", "cpu", "--seconds", "0.1", "--max-batch-size", "3"]
    assert command(*flags, "--out", str(out)).exit_code == 0
    assert {cell.rows for cell in read_profile(out).measured["tiny"]} <= {1, 2, 3}


def spoil_all(repository: Path) -> None:
    (repository / "tiny" / "1" / CARD_FILE).write_text("{")


def nothing(_: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("spoil", "flags", "message"),
    [
        (nothing, ["--models", "{tmp}/nowhere"], "--models: no model repository at"),
        (nothing, ["--models", "{tmp}/empty"], "--models: {tmp}/empty holds no model: export"),
        (spoil_all, [], "--models: no model in {tmp}/models works; the lines above say why"),
        (nothing, ["--model", "nobody"], "--model: there is no 'nobody' in {tmp}/models; it holds tiny"),
        (nothing, ["--seconds", "0"], "--seconds 0: measure for more than 0 seconds"),
        (nothing, ["--seconds", "nan"], "--seconds nan: measure for more than 0 seconds"),
        (nothing, ["--seconds", "inf"], "--seconds inf: measure for more than 0 seconds"),
        (nothing, ["--out", "{tmp}/nowhere/p.json"], "--out: {tmp}/nowhere/p.json cannot be written; name a file"),
        (nothing, ["--out", "{tmp}"], "--out: {tmp} cannot be written; name a file"),
    ],
)
def test_user_errors_are_one_line_and_write_nothing(
    repository: Path, tmp_path: Path, spoil: Callable[[Path], None], flags: list[str], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    spoil(repository)
    before = sorted(tmp_path.rglob("*"))
    defaults = ["--models", str(repository), "--device", "cpu", "--seconds", "0.1", "--out", str(tmp_path / "p.json")]
    result = command("tune", *defaults, *(flag.format(tmp=tmp_path) for flag in flags))
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert line.startswith(f"Error: {message.format(tmp=tmp_path)}")
    assert "Traceback" not in result.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_flags_of_serving_are_not_taken_for_those_of_measuring() -> None:
    result = command("--max-batch-size", "8", "tune")
    assert result.exit_code == 2
    assert "--max-batch-size is about serving; write the flags of tune after it" in result.stderr


def test_a_profile_that_cannot_be_written_is_told_before_anything_is_measured(tuning: Tuning, tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="--out"):
        tuning.run(tmp_path / "nowhere" / "profile.json")
    assert tuning.world.runs == []


def test_names_that_look_like_markup_are_shown_as_they_are(tuning: Tuning, tmp_path: Path) -> None:
    folder = tmp_path / "[bold]"
    folder.mkdir()
    shown = tuning.run(folder / "profile.json")
    assert f"{os.sep}[bold]{os.sep}profile.json" in shown
