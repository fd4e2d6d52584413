from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, cast

import pytest
from torch import Tensor, nn

from exporter import verify
from exporter.errors import ExportError, InputError, ParityError
from exporter.export import Plan, export, export_all, plan_export, plan_exports
from exporter.graph import ServedGraph, SpatialLatents
from exporter.onnx_graph import write_onnx
from exporter.source import Source
from ganserve import bundle
from ganserve.bundle import BundleError, LatentInput
from tests.exporter.conftest import IMAGE_INPUT, Exported, make_source, make_translator_source
from tests.exporter.generators import (
    LATENT_DIM,
    BatchMeanTranslator,
    BranchingGenerator,
    FixedBatchGenerator,
    FlatGenerator,
    FunctionalNorm,
    InverseTranslator,
    NoisyGenerator,
    OneByOneGenerator,
    TutorialGenerator,
    TwiceUsedNorm,
    randomise,
)


def assert_nothing_was_left(repository: Path) -> None:
    assert not repository.exists() or not list(repository.iterdir())


def pair_of(tmp_path: Path, second: nn.Module) -> list[tuple[Source, Plan]]:
    """Both directions of an image-to-image run."""
    sources = [make_translator_source(network) for network in (InverseTranslator(), second)]
    return list(zip(sources, plan_exports(tmp_path, ["pair-a2b", "pair-b2a"], None), strict=True))


def test_card_describes_a_generator(exported: Exported) -> None:
    card = bundle.read_card(exported.folder)
    assert card == exported.card
    assert (card.name, card.version, card.kind, card.architecture, card.dataset) == (
        "tiny",
        1,
        "dcgan",
        "dcgan",
        "digits",
    )
    assert card.input == LatentInput(latent_dim=LATENT_DIM)
    assert (card.channels, card.height, card.width) == (3, 8, 8)
    assert card.training == {"step": 3, "score": None}  # JSON has no NaN
    assert [parity.rows for parity in card.parity] == [1, 2, 7, 64]
    assert set(card.tool_versions) == {"python", "torch", "onnx", "onnxscript", "onnxruntime", "ganserve"}
    assert "unknown" not in card.tool_versions.values()
    for file_name in (bundle.ONNX_FILE, bundle.TORCHSCRIPT_FILE):
        bundle.read_verified_file(exported.folder, card, file_name)  # raises if it changed


def test_card_describes_a_translator(exported_translator: Exported) -> None:
    card = bundle.read_card(exported_translator.folder)
    assert card == exported_translator.card
    assert card.input == IMAGE_INPUT
    assert (card.channels, card.height, card.width) == (3, 8, 12)
    assert max(parity.onnx_images for parity in card.parity) < verify.IMAGE_TOLERANCE


def test_triton_config_is_written_next_to_the_exported_version(any_exported: Exported) -> None:
    text = (any_exported.repository / "tiny" / bundle.TRITON_CONFIG_FILE).read_text()
    assert text == bundle.triton_config(any_exported.card)


@pytest.mark.usefixtures("without_onnx")
def test_each_file_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    file_digest = hashlib.file_digest

    def count(file: Any, algorithm: str) -> Any:
        hashed.append(Path(file.name).name)
        return file_digest(file, algorithm)

    monkeypatch.setattr(hashlib, "file_digest", count)
    folder, card = export(make_source(FlatGenerator()), plan_export(tmp_path, "tiny", None, variants=["bf16"]))
    assert sorted(hashed) == ["model.bf16.pt", "model.onnx", "model.pt"]
    for file_name in card.files:
        bundle.read_verified_file(folder, card, file_name)  # raises if it changed


@pytest.mark.parametrize(
    ("generator", "message"),
    [
        pytest.param(
            FixedBatchGenerator(), r"^model\.pt at 1 row .*must keep the batch size dynamic", id="fixed-batch"
        ),
    ],
)
def test_model_that_does_not_match_is_not_published(tmp_path: Path, generator: nn.Module, message: str) -> None:
    source = make_source(randomise(generator))
    with pytest.raises(ParityError, match=message):
        export(source, plan_export(tmp_path, "tiny", None))
    assert_nothing_was_left(tmp_path)


class WeightReader(FlatGenerator):
    """Uses an attribute of its BatchNorm that no folded layer has."""

    def forward(self, latents: Tensor) -> Tensor:
        statistics = cast(Tensor, self.main[1].running_var)
        return super().forward(latents * (statistics.numel() / 16))


@pytest.mark.parametrize(
    ("generator", "line"),
    [
        (OneByOneGenerator(), r"fold no BatchNorm: it would change the images by up to \d(\.\d+)?"),
        (WeightReader(), r"fold no BatchNorm: with folded layers, forward fails \(AttributeError: .*running_var.*\)"),
    ],
)
def test_a_generator_that_folding_breaks_is_exported_unfolded(generator: nn.Module, line: str, tmp_path: Path) -> None:
    steps: list[str] = []
    plan = plan_export(tmp_path, "tiny", None, variants=["bf16"])
    _, card = export(make_source(randomise(generator)), plan, steps.append)
    assert max(parity.onnx_images for parity in card.parity) < verify.IMAGE_TOLERANCE
    assert card.variants["bf16"].published
    assert [step for step in steps if re.fullmatch(line, step)]


def with_norm(norm: nn.Module) -> nn.Module:
    generator = TutorialGenerator()
    generator.main[1] = norm
    return generator


@pytest.mark.parametrize(
    "generator",
    [
        pytest.param(with_norm(nn.InstanceNorm2d(4, affine=True)), id="instance"),
        pytest.param(with_norm(nn.InstanceNorm2d(4, track_running_stats=True)), id="instance-with-statistics"),
        pytest.param(with_norm(nn.SyncBatchNorm(4)), id="sync-batch"),
        pytest.param(with_norm(FunctionalNorm(4)), id="functional-batch"),
        pytest.param(with_norm(nn.GroupNorm(2, 4)), id="group"),
        pytest.param(TwiceUsedNorm(), id="used-twice-and-never"),
    ],
)
def test_parity_alone_decides_which_norms_are_sound(generator: nn.Module, tmp_path: Path) -> None:
    source = make_source(SpatialLatents(randomise(generator)))
    _, card = export(source, plan_export(tmp_path, "tiny", None))
    assert max(max(parity.onnx_images, parity.torchscript_images) for parity in card.parity) < verify.IMAGE_TOLERANCE


def test_generator_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="noise and dropout"):
        export(make_source(NoisyGenerator()), plan_export(tmp_path / "models", "tiny", None))
    assert_nothing_was_left(tmp_path / "models")


def test_generator_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise ExportError("cannot export the network to ONNX")

    monkeypatch.setattr("exporter.export.write_onnx", fail)
    with pytest.raises(ExportError, match="cannot export"):
        export(make_source(BranchingGenerator()), plan_export(tmp_path, "tiny", None))
    assert_nothing_was_left(tmp_path)


@pytest.mark.usefixtures("without_onnx")
@pytest.mark.parametrize("step", ["write_torchscript", "write_onnx", "prove_parity"])
def test_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"exporter.export.{step}", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export(make_source(FlatGenerator()), plan_export(tmp_path, "tiny", None))
    assert_nothing_was_left(tmp_path)


@pytest.mark.usefixtures("without_onnx")
def test_a_source_with_an_invalid_card_is_refused(tmp_path: Path) -> None:
    source = make_source(FlatGenerator())
    source.training["step"] = [1]  # type: ignore[index]
    with pytest.raises(BundleError, match=r"card would be invalid .*training"):
        export(source, plan_export(tmp_path, "tiny", None))
    assert_nothing_was_left(tmp_path)


@pytest.mark.usefixtures("without_onnx")
def test_steps_are_announced_in_order(tmp_path: Path) -> None:
    steps: list[str] = []
    export(make_source(randomise(FlatGenerator())), plan_export(tmp_path, "tiny", None), steps.append)
    assert [step.split()[0] for step in steps] == ["check", "images", "fold", "write", "write", "compare", "publish"]
    assert "fold 1 of 1 BatchNorms" in steps


def test_a_trace_that_does_not_match_is_replaced_by_torch_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_wrong_trace(
        graph: nn.Module, input_name: str, rows: Tensor, path: Path, *, from_trace: bool = True
    ) -> bool:
        written = nn.Sequential(nn.Linear(LATENT_DIM, 16), nn.Unflatten(1, (1, 4, 4)))
        wrong = ServedGraph(written, LatentInput(latent_dim=LATENT_DIM))
        return write_onnx(wrong if from_trace else graph, input_name, rows, path, from_trace=from_trace)

    monkeypatch.setattr("exporter.export.write_onnx", write_wrong_trace)
    steps: list[str] = []
    _, card = export(make_source(randomise(FlatGenerator())), plan_export(tmp_path, "tiny", None), steps.append)
    compare = "compare both files with eager PyTorch"
    assert steps[-5:] == ["write ONNX", compare, "write ONNX with torch.export", compare, "publish"]
    assert max(parity.onnx_images for parity in card.parity) < verify.IMAGE_TOLERANCE


@pytest.mark.usefixtures("without_onnx")
def test_networks_of_a_run_are_published_together(tmp_path: Path) -> None:
    steps: list[str] = []
    published = export_all(pair_of(tmp_path, nn.Identity()), steps.append)
    assert [folder for folder, _ in published] == [tmp_path / "pair-a2b" / "1", tmp_path / "pair-b2a" / "1"]
    assert [bundle.read_card(folder) for folder, _ in published] == [card for _, card in published]
    assert bundle.list_models(tmp_path) == ["pair-a2b", "pair-b2a"]
    assert {"pair-a2b: write ONNX", "pair-b2a: write ONNX"} < set(steps)
    assert steps.index("publish") == len(steps) - 1


@pytest.mark.usefixtures("without_onnx")
def test_nothing_is_published_unless_all_networks_match(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="image of a row depends"):
        export_all(pair_of(tmp_path, BatchMeanTranslator()))
    assert_nothing_was_left(tmp_path)


def test_versions_count_up_from_the_newest(tmp_path: Path) -> None:
    assert plan_export(tmp_path, "tiny", None).version == 1
    for version in (1, 2, 9):
        (tmp_path / "tiny" / str(version)).mkdir(parents=True)
    assert plan_export(tmp_path, "tiny", None).version == 10
    assert plan_export(tmp_path, "tiny", 5).version == 5
    assert plan_export(tmp_path, "other", None).version == 1


def test_version_that_exists_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "tiny" / "1").mkdir(parents=True)
    with pytest.raises(InputError, match=r"^--version 1: .*tiny/1 already exists"):
        plan_export(tmp_path, "tiny", 1)


def test_several_models_get_the_same_version_which_is_free_for_all(tmp_path: Path) -> None:
    for folder in ("pair-a2b/1", "pair-a2b/2", "pair-b2a/5"):
        (tmp_path / folder).mkdir(parents=True)
    names = ["pair-a2b", "pair-b2a"]
    assert [(plan.name, plan.version) for plan in plan_exports(tmp_path, names, None)] == [(n, 6) for n in names]
    assert [plan.version for plan in plan_exports(tmp_path, names, 3)] == [3, 3]
    with pytest.raises(InputError, match=r"^--version 5: .*pair-b2a/5 already exists"):
        plan_exports(tmp_path, names, 5)
