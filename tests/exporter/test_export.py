from __future__ import annotations

import os
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from exporter import bundle, verify
from exporter.errors import ExportError, InputError, ParityError
from exporter.export import export, plan_export
from exporter.fold import fold_batch_norms
from exporter.graph import ServedGenerator
from exporter.onnx_graph import check_folded
from exporter.torchscript import quiet_torchscript
from ganserve.latents import latents_from_seed
from tests.exporter.conftest import Exported, make_source
from tests.exporter.generators import (
    LATENT_DIM,
    BranchingGenerator,
    FixedBatchGenerator,
    FlatGenerator,
    NoisyGenerator,
    OneByOneGenerator,
    randomise,
)


def assert_nothing_was_left(repository: Path) -> None:
    assert not repository.exists() or not list(repository.iterdir())


@pytest.mark.parametrize("rows", [1, 2, 5, 64, 100])
def test_onnx_takes_any_batch_size(exported: Exported, rows: int) -> None:
    session = onnxruntime.InferenceSession(exported.folder / bundle.ONNX_FILE, providers=["CPUExecutionProvider"])
    latents = latents_from_seed(9, rows, LATENT_DIM)
    images, pixels = session.run([bundle.OUTPUT_IMAGES, bundle.OUTPUT_PIXELS], {bundle.INPUT_LATENTS: latents})
    expected = exported.source.generator(torch.from_numpy(latents)).detach().numpy()
    np.testing.assert_allclose(images, expected, atol=1e-5)
    assert pixels.shape == (rows, 8, 8, 3)
    assert pixels.dtype == np.uint8


@pytest.mark.parametrize("rows", [1, 2, 5, 64, 100])
def test_torchscript_takes_any_batch_size(exported: Exported, rows: int) -> None:
    with quiet_torchscript():
        module = torch.jit.load(exported.folder / bundle.TORCHSCRIPT_FILE)  # type: ignore[no-untyped-call]
    latents = torch.from_numpy(latents_from_seed(9, rows, LATENT_DIM))
    images, pixels = module(latents)
    torch.testing.assert_close(images, exported.source.generator(latents), atol=1e-5, rtol=0)
    assert pixels.shape == (rows, 8, 8, 3)
    assert pixels.dtype == torch.uint8


def test_torchscript_can_be_moved_to_another_dtype(exported: Exported) -> None:
    with quiet_torchscript():
        module = torch.jit.load(exported.folder / bundle.TORCHSCRIPT_FILE)  # type: ignore[no-untyped-call]
    images, pixels = module.to(torch.bfloat16)(torch.zeros(2, LATENT_DIM, dtype=torch.bfloat16))
    assert images.dtype == torch.bfloat16
    assert pixels.dtype == torch.uint8


def test_onnx_names_are_the_contracts_and_only_the_batch_is_free(exported: Exported) -> None:
    session = onnxruntime.InferenceSession(exported.folder / bundle.ONNX_FILE, providers=["CPUExecutionProvider"])
    (latents,) = session.get_inputs()
    images, pixels = session.get_outputs()
    assert (latents.name, latents.type, latents.shape[1:]) == ("latents", "tensor(float)", [LATENT_DIM])
    assert (images.name, images.type, images.shape[1:]) == ("images", "tensor(float)", [3, 8, 8])
    assert (pixels.name, pixels.type, pixels.shape[1:]) == ("pixels", "tensor(uint8)", [8, 8, 3])
    assert all(isinstance(value.shape[0], str) for value in (latents, images, pixels))


def test_onnx_holds_no_batch_norm_and_no_notes(exported: Exported) -> None:
    model = onnx.load(exported.folder / bundle.ONNX_FILE)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert not model.doc_string
    assert not model.metadata_props
    assert not model.graph.metadata_props
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


@pytest.mark.parametrize("file_name", [bundle.ONNX_FILE, bundle.TORCHSCRIPT_FILE, bundle.CARD_FILE])
def test_no_path_of_this_machine_is_in_a_file(exported: Exported, file_name: str) -> None:
    path = exported.folder / file_name
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            content = b"".join(name.encode() + archive.read(name) for name in archive.namelist())
    else:
        content = path.read_bytes()
    folders = [Path.cwd(), Path.home(), Path(__file__).parent, Path(torch.__file__).parent, exported.repository]
    folders += [Path(sys.prefix), Path(sysconfig.get_path("stdlib")), Path(tempfile.gettempdir())]
    found = [folder for folder in folders if os.fspath(folder).encode() in content]
    assert found == []


def test_card_tells_what_was_exported(exported: Exported) -> None:
    card = bundle.read_card(exported.folder)
    assert card == exported.card
    assert (card.name, card.version, card.kind, card.architecture, card.dataset) == (
        "tiny",
        1,
        "dcgan",
        "dcgan",
        "digits",
    )
    assert (card.latent_dim, card.channels, card.height, card.width) == (LATENT_DIM, 3, 8, 8)
    assert card.training == {"step": 3, "score": None}  # JSON has no NaN
    assert [figure.rows for figure in card.parity] == [1, 2, 7, 64]
    assert set(card.tool_versions) == {"python", "torch", "onnx", "onnxscript", "onnxruntime", "ganserve"}
    assert "unknown" not in card.tool_versions.values()
    for file_name in (bundle.ONNX_FILE, bundle.TORCHSCRIPT_FILE):
        assert bundle.verify_file(exported.folder, card, file_name).is_file()


@pytest.mark.parametrize(
    ("generator", "message"),
    [
        pytest.param(OneByOneGenerator(), r"^model\.pt at 1 rows differs from .* grey levels .* --no-fold$", id="fold"),
        pytest.param(FixedBatchGenerator(), r"^model\.pt at 1 rows .*must not turn the batch size", id="fixed-batch"),
    ],
)
def test_model_that_does_not_match_is_not_published(tmp_path: Path, generator: nn.Module, message: str) -> None:
    source = make_source(randomise(generator))
    with pytest.raises(ParityError, match=message):
        export(source, plan_export(tmp_path, "tiny", None))
    assert_nothing_was_left(tmp_path)


def test_unfolded_export_keeps_a_generator_that_folding_breaks(tmp_path: Path) -> None:
    source = make_source(randomise(OneByOneGenerator()))
    folder, card = export(source, plan_export(tmp_path, "tiny", None, fold=False))
    assert folder == tmp_path / "tiny" / "1"
    assert max(figure.onnx_images for figure in card.parity) < verify.IMAGE_TOLERANCE


def test_generator_that_onnx_cannot_hold_is_not_published(tmp_path: Path) -> None:
    source = make_source(BranchingGenerator())
    with pytest.raises(ExportError, match=r"^the generator cannot be exported to ONNX .*must not depend on the values"):
        export(source, plan_export(tmp_path, "tiny", None))
    assert_nothing_was_left(tmp_path)


def test_generator_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="noise or dropout"):
        export(make_source(NoisyGenerator()), plan_export(tmp_path / "models", "tiny", None))
    assert_nothing_was_left(tmp_path / "models")


@pytest.mark.parametrize("step", ["write_torchscript", "write_onnx", "prove_parity"])
def test_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"exporter.export.{step}", interrupt)
    if step == "prove_parity":
        monkeypatch.setattr("exporter.export.write_onnx", lambda graph, latents, path: path.write_bytes(b"half"))
    with pytest.raises(KeyboardInterrupt):
        export(make_source(FlatGenerator()), plan_export(tmp_path, "tiny", None))
    assert_nothing_was_left(tmp_path)


def test_facts_that_no_card_can_hold_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.export.write_onnx", lambda graph, latents, path: path.write_bytes(b""))
    monkeypatch.setattr("exporter.export.prove_parity", lambda reference, folder, latent_dim: [])
    source = make_source(FlatGenerator())
    source.training["step"] = [1]  # type: ignore[index]
    with pytest.raises(bundle.BundleError, match=r"do not fit a card .*training"):
        export(source, plan_export(tmp_path, "tiny", None))
    assert_nothing_was_left(tmp_path)


def test_versions_count_up_from_the_newest(tmp_path: Path) -> None:
    assert plan_export(tmp_path, "tiny", None).version == 1
    for version in (1, 2, 9):
        (tmp_path / "tiny" / str(version)).mkdir(parents=True)
    assert plan_export(tmp_path, "tiny", None).version == 10
    assert plan_export(tmp_path, "tiny", 5).version == 5
    assert plan_export(tmp_path, "other", None).version == 1


def test_version_that_exists_is_refused_before_any_work(exported: Exported) -> None:
    with pytest.raises(InputError, match=r"^--version 1: .*tiny/1 exists already"):
        plan_export(exported.repository, "tiny", 1)


def test_steps_are_announced_in_order(tmp_path: Path) -> None:
    steps: list[str] = []
    export(make_source(randomise(FlatGenerator())), plan_export(tmp_path, "tiny", None), steps.append)
    assert [step.split()[0] for step in steps] == ["check", "fold", "write", "write", "prove", "publish"]
    assert "fold 1 of 1 BatchNorms" in steps


def test_batch_norm_left_in_the_graph_is_noticed(exported: Exported) -> None:
    model = onnx.load(exported.folder / bundle.ONNX_FILE)
    check_folded(model, batch_norms=0)
    model.graph.node.append(onnx.helper.make_node("BatchNormalization", list("abcde"), ["f"]))
    check_folded(model, batch_norms=1)
    with pytest.raises(ExportError, match="1 BatchNormalization nodes"):
        check_folded(model, batch_norms=0)


def test_parity_is_zero_against_itself_and_reads_the_files(exported: Exported, tmp_path: Path) -> None:
    graph = ServedGenerator(exported.source.generator)
    figures = verify.prove_parity(graph, exported.folder, LATENT_DIM)
    assert figures == exported.card.parity
    for file_name in (bundle.ONNX_FILE, bundle.TORCHSCRIPT_FILE):
        (tmp_path / file_name).write_bytes((exported.folder / file_name).read_bytes())
    (tmp_path / bundle.ONNX_FILE).write_bytes(b"not a graph")
    with pytest.raises(ParityError, match=r"^model\.onnx cannot be loaded"):
        verify.prove_parity(graph, tmp_path, LATENT_DIM)


def alter_onnx(monkeypatch: pytest.MonkeyPatch, images: float = 0.0, pixels: int = 0) -> None:
    """Makes onnxruntime's images and pixels differ by this much."""
    open_file = verify._onnx_runner

    def altered(path: Path) -> verify.Runner:
        run = open_file(path)

        def run_altered(latents: np.ndarray[Any, np.dtype[np.float32]]) -> verify.Arrays:
            true_images, true_pixels = run(latents)
            nudged = np.where(true_pixels < 128, true_pixels + pixels, true_pixels - pixels)
            return true_images + np.float32(images), nudged.astype(np.uint8)

        return run_altered

    monkeypatch.setattr(verify, "_onnx_runner", altered)


@pytest.mark.parametrize(
    ("images", "pixels", "message"),
    [
        pytest.param(5e-4, 0, r"by up to 0\.0005 in images \(allowed 0\.0001\) and 0 grey levels", id="images"),
        pytest.param(0.0, 2, r"and 2 grey levels in pixels \(allowed 1\)", id="pixels"),
        pytest.param(np.nan, 0, "images hold NaN or infinity", id="nan"),
        pytest.param(np.inf, 0, "images hold NaN or infinity", id="infinity"),
    ],
)
def test_difference_above_the_tolerance_is_refused(
    exported: Exported, monkeypatch: pytest.MonkeyPatch, images: float, pixels: int, message: str
) -> None:
    alter_onnx(monkeypatch, images, pixels)
    with pytest.raises(ParityError, match=rf"^model\.onnx at 1 rows.*{message}"):
        verify.prove_parity(ServedGenerator(exported.source.generator), exported.folder, LATENT_DIM)


def test_difference_within_the_tolerance_is_recorded(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    alter_onnx(monkeypatch, 5e-5, 1)
    for figure in verify.prove_parity(ServedGenerator(exported.source.generator), exported.folder, LATENT_DIM):
        assert figure.onnx_images == pytest.approx(5e-5, rel=0.1)
        assert figure.onnx_pixels == 1
        assert figure.torchscript_pixels == 0


def test_tolerance_grows_with_the_value_range(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    alter_onnx(monkeypatch, 5e-4)
    wide = ServedGenerator(exported.source.generator, -10.0, 10.0)
    with pytest.raises(ParityError, match=r"allowed 0\.001\)"):  # of pixels, which have another range in the file
        verify.prove_parity(wide, exported.folder, LATENT_DIM)


def test_folded_graph_is_what_was_exported(exported: Exported) -> None:
    model = onnx.load(exported.folder / bundle.ONNX_FILE)
    weights = {tuple(tensor.dims) for tensor in model.graph.initializer}
    folded = fold_batch_norms(exported.source.generator)
    assert {tuple(p.shape) for p in folded.parameters() if p.ndim == 4} <= weights
