from __future__ import annotations

import os
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from exporter import verify
from exporter.errors import ExportError, InputError, ParityError
from exporter.export import export, plan_export, plan_exports
from exporter.fold import fold_batch_norms
from exporter.onnx_graph import check_folded
from exporter.torchscript import quiet_torchscript
from ganserve import bundle
from ganserve.bundle import BundleError, LatentInput
from tests.exporter.conftest import IMAGE_INPUT, Exported, make_source
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
def test_onnx_takes_any_batch_size(any_exported: Exported, rows: int) -> None:
    session = onnxruntime.InferenceSession(any_exported.folder / bundle.ONNX_FILE, providers=["CPUExecutionProvider"])
    batch = bundle.example_rows(any_exported.card.input, 9, rows)
    images, pixels = session.run([bundle.OUTPUT_IMAGES, bundle.OUTPUT_PIXELS], {any_exported.card.input.name: batch})
    expected, expected_pixels = any_exported.graph(torch.from_numpy(batch))
    np.testing.assert_allclose(images, expected.detach().numpy(), atol=2e-5)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - expected_pixels.numpy().astype(int)).max() <= 1


@pytest.mark.parametrize("rows", [1, 2, 5, 64, 100])
def test_torchscript_takes_any_batch_size(any_exported: Exported, rows: int) -> None:
    with quiet_torchscript():
        module = torch.jit.load(any_exported.folder / bundle.TORCHSCRIPT_FILE)  # type: ignore[no-untyped-call]
    batch = torch.from_numpy(bundle.example_rows(any_exported.card.input, 9, rows))
    images, pixels = module(batch)
    expected, expected_pixels = any_exported.graph(batch)
    torch.testing.assert_close(images, expected, atol=2e-5, rtol=0)
    torch.testing.assert_close(pixels, expected_pixels, atol=1, rtol=0)


def test_torchscript_can_be_moved_to_another_dtype(any_exported: Exported) -> None:
    with quiet_torchscript():
        module = torch.jit.load(any_exported.folder / bundle.TORCHSCRIPT_FILE)  # type: ignore[no-untyped-call]
    batch = torch.from_numpy(bundle.example_rows(any_exported.card.input, 9, 2))
    images, pixels = module.to(torch.bfloat16)(batch.to(torch.bfloat16) if batch.is_floating_point() else batch)
    assert images.dtype == torch.bfloat16
    assert pixels.dtype == torch.uint8


@pytest.mark.parametrize(
    ("which", "name", "dtype", "row_shape", "image_shape"),
    [
        ("exported", "latents", "tensor(float)", [LATENT_DIM], [3, 8, 8]),
        ("exported_translator", "input_pixels", "tensor(uint8)", [8, 12, 3], [3, 8, 12]),
    ],
)
def test_onnx_names_are_the_contracts_and_only_the_batch_is_free(
    request: pytest.FixtureRequest, which: str, name: str, dtype: str, row_shape: list[int], image_shape: list[int]
) -> None:
    folder = request.getfixturevalue(which).folder
    session = onnxruntime.InferenceSession(folder / bundle.ONNX_FILE, providers=["CPUExecutionProvider"])
    (rows,) = session.get_inputs()
    images, pixels = session.get_outputs()
    assert (rows.name, rows.type, rows.shape[1:]) == (name, dtype, row_shape)
    assert (images.name, images.type, images.shape[1:]) == ("images", "tensor(float)", image_shape)
    assert (pixels.name, pixels.type, pixels.shape[1:]) == ("pixels", "tensor(uint8)", [*image_shape[1:], 3])
    assert all(isinstance(value.shape[0], str) for value in (rows, images, pixels))


def test_onnx_holds_no_batch_norm_and_no_notes(any_exported: Exported) -> None:
    model = onnx.load(any_exported.folder / bundle.ONNX_FILE)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert not model.doc_string
    assert not model.metadata_props
    assert not model.graph.metadata_props
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


@pytest.mark.parametrize("file_name", [bundle.ONNX_FILE, bundle.TORCHSCRIPT_FILE, bundle.CARD_FILE])
def test_no_path_of_this_machine_is_in_a_file(any_exported: Exported, file_name: str) -> None:
    path = any_exported.folder / file_name
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            content = b"".join(name.encode() + archive.read(name) for name in archive.namelist())
    else:
        content = path.read_bytes()
    folders = [Path.cwd(), Path.home(), Path(__file__).parent, Path(torch.__file__).parent, any_exported.repository]
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
    assert card.input == LatentInput(latent_dim=LATENT_DIM)
    assert (card.channels, card.height, card.width) == (3, 8, 8)
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
    with pytest.raises(ExportError, match=r"^the network cannot be exported to ONNX .*must not depend on the values"):
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
        monkeypatch.setattr("exporter.export.write_onnx", lambda graph, name, rows, path: path.write_bytes(b"half"))
    with pytest.raises(KeyboardInterrupt):
        export(make_source(FlatGenerator()), plan_export(tmp_path, "tiny", None))
    assert_nothing_was_left(tmp_path)


def test_facts_that_no_card_can_hold_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.export.write_onnx", lambda graph, name, rows, path: path.write_bytes(b""))
    monkeypatch.setattr("exporter.export.prove_parity", lambda reference, folder, row_input: [])
    source = make_source(FlatGenerator())
    source.training["step"] = [1]  # type: ignore[index]
    with pytest.raises(BundleError, match=r"do not fit a card .*training"):
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


def test_versions_of_several_names_are_the_same_and_free_for_all(tmp_path: Path) -> None:
    for folder in ("pair-a2b/1", "pair-a2b/2", "pair-b2a/5"):
        (tmp_path / folder).mkdir(parents=True)
    names = ["pair-a2b", "pair-b2a"]
    assert [(plan.name, plan.version) for plan in plan_exports(tmp_path, names, None)] == [(n, 6) for n in names]
    assert [plan.version for plan in plan_exports(tmp_path, names, 3)] == [3, 3]
    with pytest.raises(InputError, match=r"^--version 5: .*pair-b2a/5 exists already"):
        plan_exports(tmp_path, names, 5)


def test_translator_is_told_from_a_generator_by_its_card(exported_translator: Exported) -> None:
    card = bundle.read_card(exported_translator.folder)
    assert card == exported_translator.card
    assert card.input == IMAGE_INPUT
    assert (card.channels, card.height, card.width) == (3, 8, 12)
    assert max(figure.onnx_images for figure in card.parity) < verify.IMAGE_TOLERANCE


def test_instance_norm_stays_one_node_each(exported_translator: Exported) -> None:
    model = onnx.load(exported_translator.folder / bundle.ONNX_FILE)
    modules = exported_translator.source.network.modules()
    expected = sum(isinstance(module, nn.InstanceNorm2d) for module in modules)
    assert [node.op_type for node in model.graph.node].count("InstanceNormalization") == expected


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


def test_folded_graph_is_what_was_exported(exported: Exported) -> None:
    model = onnx.load(exported.folder / bundle.ONNX_FILE)
    weights = {tuple(tensor.dims) for tensor in model.graph.initializer}
    folded = fold_batch_norms(exported.source.network)
    assert {tuple(p.shape) for p in folded.parameters() if p.ndim == 4} <= weights


def test_triton_config_lies_beside_the_exported_version(any_exported: Exported) -> None:
    text = (any_exported.repository / "tiny" / bundle.TRITON_CONFIG_FILE).read_text()
    assert text == bundle.triton_config(any_exported.card)
