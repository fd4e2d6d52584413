"""The subcommand `tune`: its output and its errors."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from ganserve.bundle import CARD_FILE, BundleError, Card, read_card
from ganserve.machine import usable_cores
from server.__main__ import main
from server.config import ServerConfig
from server.engines.base import cuda_devices
from server.engines.layouts import Layout
from server.errors import StartupError
from server.scheduling.instances import Instance
from server.tuning.choice import cpu_layouts
from server.tuning.tune import Plan, plan_layouts, tune
from tests.server.scheduling.fake_instances import Cost, FakeTime
from tests.server.tiny_bundles import publish_tiny_bundle


def rows_cost(row_s: float, bf16: float = 1.0) -> Cost:
    def cost(layout: Layout, rows: int) -> float:
        return rows * row_s * (bf16 if layout.precision == "bf16" else 1.0) * (0.3 + 0.7 / layout.threads)

    return cost


class Tuning:
    """Tunes a repository with instances that take fake time."""

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self.world = FakeTime()
        self.costs: dict[str, Cost] = {}
        self.began: dict[str, float] = {}
        self.fail: dict[tuple[str, str], Exception] = {}  # by model and precision

    def run(self, *names: str, seconds: float = 1.0, bf16: bool = False) -> str:
        """Returns the output."""
        shown = io.StringIO()

        def plan(folder: Path, card: Card, config: ServerConfig) -> Plan:
            self.began[card.name] = self.world.now
            load_fake = self.world.loader(self.costs.get(card.name, rows_cost(1e-3)))

            def load(layout: Layout) -> list[Instance]:
                if (error := self.fail.get((card.name, layout.precision))) is not None:
                    raise error
                return load_fake(layout)

            return Plan("cpu", cpu_layouts(usable_cores()), load, bf16)

        console = Console(file=shown, width=200)
        tune(self.config, names, seconds, console=console, plan_model=plan, bench=self.world.bench)
        return shown.getvalue()


@pytest.fixture
def tuning(config: ServerConfig) -> Tuning:
    return Tuning(config)


def command(*flags: str) -> Any:
    return CliRunner().invoke(main, flags, prog_name="python -m server")


def tables(shown: str) -> list[str]:
    """The models with a table in the output."""
    return [line.partition(":")[0] for line in shown.splitlines() if ": images per second, by" in line]


def flags_of(shown: str) -> list[list[str]]:
    """The printed commands, as lists of their words after `python -m server`."""
    commands = shown.partition("Serve with:\n")[2].splitlines()
    return [line.split()[3:] for line in commands if line.startswith("  python -m server ")]


def test_the_command_measures_a_real_bundle_and_prints_flags_that_the_server_takes(repository: Path) -> None:
    result = command("tune", "--models", str(repository), "--device", "cpu", "--seconds", "0.2")
    assert result.exit_code == 0, result.output
    assert tables(result.stdout) == ["tiny"]
    (flags,) = flags_of(result.stdout)
    assert flags[:5] == ["--models", str(repository), "--device", "cpu", "--engines"]
    assert flags[6] == "--max-batch-size"
    assert main.make_context("server", flags).params["engines"] >= 1


def test_the_printed_command_keeps_the_number_of_cores_that_was_measured(repository: Path) -> None:
    result = command("tune", "--models", str(repository), "--device", "cpu", "--seconds", "0.2", "--cores", "1")
    (flags,) = flags_of(result.stdout)
    assert flags[4:8] == ["--cores", "1", "--engines", "1"]


def test_the_table_marks_the_best_and_a_line_says_what_was_chosen_and_why(tuning: Tuning) -> None:
    shown = tuning.run()
    assert shown.count("*") == 1
    _, why = [line for line in shown.splitlines() if line.startswith("tiny: ")]
    ((*_, engines, _, rows),) = flags_of(shown)
    layout = Layout("onnx", "fp32", int(engines), usable_cores() // int(engines))
    assert why.startswith(f"tiny: {layout}, ")
    assert f"in batches of {rows}, " in why


def test_a_faster_bf16_layout_is_measured_and_added_to_the_flags(tuning: Tuning) -> None:
    tuning.costs["tiny"] = rows_cost(20e-3, bf16=0.1)
    shown = tuning.run(seconds=20.0, bf16=True)
    ((*_, flag, precision),) = flags_of(shown)
    assert (flag, precision) == ("--precision", "bf16")
    assert "bf16 changes the throughput" in shown
    assert tuning.world.loaded[-1].precision == "bf16"
    assert tuning.world.loaded[-1].engines in {layout.engines for layout in tuning.world.loaded[:-1]}
    assert "--precision" not in tuning.run(seconds=20.0)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BundleError("changed"), "changed"),
        (StartupError("no PyTorch"), "no PyTorch"),
        (MemoryError("no room\nfor it"), "loading failed (MemoryError: no room); free some memory"),
    ],
)
def test_bf16_that_cannot_be_loaded_is_skipped(
    tuning: Tuning, error: Exception, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    tuning.fail["tiny", "bf16"] = error
    assert "bf16 changes" not in tuning.run(bf16=True)
    (message,) = caplog.messages
    assert message.startswith(f"tiny is not measured in bf16: {reason}")


def test_models_that_need_different_flags_get_a_command_each(tuning: Tuning, repository: Path) -> None:
    publish_tiny_bundle(repository, "other")
    tuning.costs["other"] = lambda layout, rows: 5e-3 + rows * 1e-4 / layout.threads
    shown = tuning.run(seconds=100.0)
    first, second = flags_of(shown)
    assert first[-3:] == ["#", "suits", "other"]
    assert second[-3:] == ["#", "suits", "tiny"]
    assert "The flags apply to all models of a server: use those of the model with the most traffic." in shown


def test_the_time_is_split_fairly_over_the_models(tuning: Tuning, repository: Path) -> None:
    publish_tiny_bundle(repository, "other")
    tuning.costs["other"] = rows_cost(0.02)
    shown = tuning.run(seconds=8.0)
    assert tuning.began["other"] == 0.0
    assert tuning.began["tiny"] == pytest.approx(4.0, abs=1.5)
    assert tuning.world.now == pytest.approx(8.0, abs=0.5)
    assert tables(shown) == ["other", "tiny"]


def test_only_the_requested_models_are_measured(tuning: Tuning, repository: Path) -> None:
    publish_tiny_bundle(repository, "other")
    assert tables(tuning.run("other")) == ["other"]


def test_models_that_were_not_measured_in_time_are_named(tuning: Tuning, repository: Path) -> None:
    publish_tiny_bundle(repository, "a-slow-one")
    tuning.costs["a-slow-one"] = rows_cost(100.0)
    shown = tuning.run()
    assert tables(shown) == ["a-slow-one"]
    assert "no time was left for tiny: raise --seconds, or --model tiny" in shown


def test_running_out_of_time_does_not_lower_the_batch_size_and_names_the_flag(tuning: Tuning) -> None:
    tuning.costs["tiny"] = lambda layout, rows: 0.01 + rows * 0.01 / layout.threads
    shown = tuning.run(seconds=0.5)
    assert flags_of(shown)[0][-2:] == ["--max-batch-size", "64"]
    assert "there was no time to measure all batch sizes: raise --seconds" in shown
    assert "--seconds" not in tuning.run(seconds=500.0)


def test_a_model_that_runs_out_of_memory_prints_one_line_and_the_others_are_measured(
    tuning: Tuning, repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish_tiny_bundle(repository, "a-large-one")
    tuning.fail["a-large-one", "fp32"] = RuntimeError("CUDA out of memory\nat layer 1")
    assert tables(tuning.run()) == ["tiny"]
    (message,) = caplog.messages
    assert message.startswith(
        "a-large-one:1 is broken and not measured: loading failed (RuntimeError: CUDA out of memory); free"
    )
    assert "\n" not in message


def test_the_newest_version_that_works_is_measured(
    tuning: Tuning, repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (publish_tiny_bundle(repository, version=2) / CARD_FILE).write_text("{")
    with caplog.at_level(logging.WARNING):
        assert tables(tuning.run()) == ["tiny"]
    assert caplog.messages[0].startswith("tiny:2 is broken and not measured: ")


def test_batches_are_never_measured_above_the_limit(repository: Path, config: ServerConfig) -> None:
    tuning = Tuning(ServerConfig(models=config.models, max_batch_size=3))
    tuning.run()
    assert {rows for _, rows in tuning.world.runs} == {1, 2, 3}


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
        (nothing, ["--seconds", "0"], "Invalid value for '--seconds': 0.0 is not in the range x>0."),
    ],
)
def test_user_errors_print_one_line(
    repository: Path, tmp_path: Path, spoil: Callable[[Path], None], flags: list[str], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    spoil(repository)
    defaults = ["--models", str(repository), "--device", "cpu", "--seconds", "0.1"]
    result = command("tune", *defaults, *(flag.format(tmp=tmp_path) for flag in flags))
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert line.startswith(f"Error: {message.format(tmp=tmp_path)}")
    assert "Traceback" not in result.stderr


def test_flags_of_the_server_are_refused_before_the_subcommand() -> None:
    result = command("--max-batch-size", "8", "tune")
    assert result.exit_code == 2
    assert "--max-batch-size is a flag of the server; write the flags of tune after its name" in result.stderr


def test_names_that_look_like_markup_are_printed_unchanged(repository: Path) -> None:
    (repository.parent / "[bold]").mkdir()
    tuning = Tuning(ServerConfig(models=repository.rename(repository.parent / "[bold]" / "models")))
    assert "[bold]" in tuning.run()


@pytest.mark.skipif(cuda_devices() > 0, reason="CUDA works here")
def test_missing_cuda_prints_one_line(repository: Path) -> None:
    result = command("tune", "--models", str(repository), "--device", "cuda")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith("Error: --device cuda: the NVIDIA driver reports no device")


def test_cuda_is_measured_with_the_instances_of_the_server(
    repository: Path, config: ServerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Loaded:
        class groups:  # noqa: N801 - stands for an object
            instances = FakeTime().loader(lambda *_: 1e-3)(Layout("onnx", "fp32", 2, 1))

    monkeypatch.setattr("server.tuning.tune.load_cuda_instances", lambda *_: Loaded)
    folder = repository / "tiny" / "1"
    plan = plan_layouts(folder, read_card(folder), config)
    assert (plan.device, plan.layouts, plan.bf16) == ("cuda", [Layout("onnx", "fp32", 2, 1)], False)
    assert plan.load(plan.layouts[0]) == Loaded.groups.instances


@pytest.fixture
def dead_cuda(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Fakes a driver that reports an unusable device; lists the models that were tried on it."""
    tried: list[str] = []

    def load(folder: Path, card: Card, *_: Any) -> Any:
        tried.append(card.name)
        raise StartupError("--device cuda: it is asleep")

    monkeypatch.setattr("server.engines.loading.cuda_devices", lambda: 1)
    monkeypatch.setattr("server.engines.loading._load_cuda_instances", load)
    return tried


def test_broken_cuda_is_tried_once_before_the_cpu_is_measured(
    repository: Path, dead_cuda: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    publish_tiny_bundle(repository, "other")
    result = command("tune", "--models", str(repository), "--seconds", "0.2")
    assert result.exit_code == 0, result.output
    assert "--engines" in result.stdout
    assert dead_cuda == ["other"]
    assert caplog.messages == ["there is a CUDA device, but the CPU is used: --device cuda: it is asleep"]


def test_broken_cuda_that_was_requested_prints_one_line(repository: Path, dead_cuda: list[str]) -> None:
    result = command("tune", "--models", str(repository), "--device", "cuda")
    assert result.exit_code == 2
    assert [line for line in result.stderr.splitlines() if line.startswith("Error: ")] == [
        "Error: --device cuda: it is asleep"
    ]
    assert dead_cuda == ["tiny"]
