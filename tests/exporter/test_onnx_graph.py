from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from exporter.errors import ExportError
from exporter.fold import fold_batch_norms
from exporter.graph import ServedGraph, SpatialLatents
from exporter.onnx_graph import strip_metadata, write_onnx
from exporter.signature import Signature
from exporter.trial import adapt
from ganserve import bundle
from ganserve.bundle import ImageInput, LatentInput
from tests.exporter.conftest import Exported, graph_of, make_source
from tests.exporter.gallery.entries import GALLERY
from tests.exporter.generators import LATENT_DIM, BranchingGenerator, FlatGenerator, TutorialGenerator, randomise
from tests.trainer.conftest import GAN_PRESETS, small_cycle, small_gan
from trainer.models.latent_layer import with_plain_layers
from trainer.models.progressive import ProgressiveGenerator, plain


def open_session(exported: Exported) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(exported.folder / bundle.ONNX_FILE, providers=["CPUExecutionProvider"])


def test_onnx_takes_any_batch_size(any_exported: Exported) -> None:
    session = open_session(any_exported)
    for rows in (1, 2, 5, 100):
        batch = bundle.example_rows(any_exported.card.input, 9, rows)
        images, pixels = session.run(["images", "pixels"], {any_exported.card.input.name: batch})
        expected, expected_pixels = any_exported.graph(torch.from_numpy(batch))
        np.testing.assert_allclose(images, expected.detach().numpy(), atol=2e-5)
        assert pixels.dtype == np.uint8
        assert np.abs(pixels.astype(int) - expected_pixels.numpy().astype(int)).max() <= 1


@pytest.mark.parametrize(
    ("which", "name", "dtype", "row_shape", "image_shape"),
    [
        ("exported", "latents", "tensor(float)", [LATENT_DIM], [3, 8, 8]),
        ("exported_translator", "input_pixels", "tensor(uint8)", [8, 12, 3], [3, 8, 12]),
    ],
)
def test_onnx_has_the_contracts_names_and_a_dynamic_batch(
    request: pytest.FixtureRequest, which: str, name: str, dtype: str, row_shape: list[int], image_shape: list[int]
) -> None:
    session = open_session(request.getfixturevalue(which))
    (rows,) = session.get_inputs()
    images, pixels = session.get_outputs()
    assert (rows.name, rows.type, rows.shape[1:]) == (name, dtype, row_shape)
    assert (images.name, images.type, images.shape[1:]) == ("images", "tensor(float)", image_shape)
    assert (pixels.name, pixels.type, pixels.shape[1:]) == ("pixels", "tensor(uint8)", [*image_shape[1:], 3])
    assert all(isinstance(value.shape[0], str) for value in (rows, images, pixels))


def test_onnx_holds_no_batch_norm_and_no_metadata(any_exported: Exported) -> None:
    model = onnx.load(any_exported.folder / bundle.ONNX_FILE)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert not model.doc_string
    assert not model.metadata_props
    assert not model.graph.metadata_props
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


def test_metadata_is_stripped_at_every_depth() -> None:
    node = onnx.helper.make_node("Relu", ["a"], ["b"], doc_string="/home/me/net.py")
    inner = onnx.helper.make_graph([node], "inner", [], [], doc_string="inner")
    outer = onnx.helper.make_node("If", ["c"], ["b"], then_branch=inner, else_branch=inner)
    model = onnx.helper.make_model(onnx.helper.make_graph([outer], "outer", [], []), doc_string="model")
    strip_metadata(model)
    assert b"doc" not in model.SerializeToString()
    assert b"/home/me" not in model.SerializeToString()


def test_instance_norm_stays_one_node_each(exported_translator: Exported) -> None:
    model = onnx.load(exported_translator.folder / bundle.ONNX_FILE)
    modules = exported_translator.source.network.modules()
    expected = sum(isinstance(module, nn.InstanceNorm2d) for module in modules)
    assert [node.op_type for node in model.graph.node].count("InstanceNormalization") == expected


def test_onnx_holds_the_folded_weights(exported: Exported) -> None:
    model = onnx.load(exported.folder / bundle.ONNX_FILE)
    weights = {tuple(tensor.dims) for tensor in model.graph.initializer}
    folded = fold_batch_norms(exported.source.network)
    assert {tuple(p.shape) for p in folded.parameters() if p.ndim == 4} <= weights


def test_generator_that_onnx_cannot_express_gives_one_line(tmp_path: Path) -> None:
    source = make_source(BranchingGenerator())
    with pytest.raises(
        ExportError, match=r"^cannot export the network to ONNX .*must not depend on the values"
    ) as caught:
        write_onnx(graph_of(source), "latents", torch.zeros(3, LATENT_DIM), tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


class TwiceNormalised(FlatGenerator):
    """Uses one BatchNorm twice, so that the graph has more than the module."""

    def forward(self, latents: Tensor) -> Tensor:
        again: Tensor = self.main[1](-self.main[0](latents))
        return super().forward(latents) + again.view(-1, 1, 4, 4)


def test_batch_norm_may_be_used_twice(tmp_path: Path) -> None:
    source = make_source(randomise(TwiceNormalised()))
    write_onnx(graph_of(source), "latents", torch.zeros(3, LATENT_DIM), tmp_path / "model.onnx")
    nodes = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert nodes.count("BatchNormalization") == 2


def write(network: nn.Module, path: Path, **settings: bool) -> bool:
    source = make_source(randomise(network))
    return write_onnx(graph_of(source), "latents", torch.zeros(3, LATENT_DIM), path / "model.onnx", **settings)


class WithRareOperator(FlatGenerator):
    """Has an operator that the exporter of traces does not know."""

    def forward(self, latents: Tensor) -> Tensor:
        return torch.erfc(super().forward(latents))


def test_a_network_of_layers_is_written_from_a_trace(tmp_path: Path) -> None:
    assert write(FlatGenerator(), tmp_path)
    assert not write(FlatGenerator(), tmp_path, from_trace=False)


@pytest.mark.parametrize("architecture", sorted({small_gan(*key).network.architecture for key in GAN_PRESETS}))
def test_every_architecture_is_written_from_a_trace(tmp_path: Path, architecture: str) -> None:
    config = next(small_gan(*key) for key in GAN_PRESETS if small_gan(*key).network.architecture == architecture)
    network = with_plain_layers(config.build_generator())
    if isinstance(network, ProgressiveGenerator):
        network = plain(network)
    graph = ServedGraph(network, LatentInput(latent_dim=config.network.latent_dim))
    rows = torch.zeros(3, config.network.latent_dim)
    assert write_onnx(fold_batch_norms(graph), "latents", rows, tmp_path / "model.onnx")


def test_a_translator_is_written_from_a_trace(tmp_path: Path) -> None:
    translator = small_cycle().build_generator()
    graph = ServedGraph(translator, ImageInput(channels=3, height=32, width=32))
    rows = torch.zeros(3, 32, 32, 3, dtype=torch.uint8)
    assert write_onnx(graph, "input_pixels", rows, tmp_path / "model.onnx")


@pytest.mark.parametrize("name", ["biggan", "transgan"])
def test_attention_is_written_from_a_trace(tmp_path: Path, name: str) -> None:
    entry = GALLERY[name]
    signature = Signature(forward_kwargs={"y": [3]} if name == "biggan" else {}, output_image=(3, 16, 16))
    network = adapt(entry.build(), entry.row_input, (-1.0, 1.0), signature)
    graph = ServedGraph(fold_batch_norms(network), entry.row_input)
    before = torch.backends.mha.get_fastpath_enabled()
    assert write_onnx(graph, "latents", torch.zeros(3, 20), tmp_path / "model.onnx")
    assert torch.backends.mha.get_fastpath_enabled() == before


def test_torch_export_writes_what_the_exporter_of_traces_cannot(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    network = WithRareOperator()
    assert not write(network, tmp_path)
    assert capfd.readouterr().out == ""
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    latents = torch.randn(5, LATENT_DIM)
    images, _ = session.run(None, {"latents": latents.numpy()})
    np.testing.assert_allclose(images, network(latents).detach().numpy(), atol=2e-5)


def test_an_invalid_graph_of_a_trace_is_written_again_by_torch_export(tmp_path: Path) -> None:
    class FixedLabel(FlatGenerator):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(10, LATENT_DIM)

        def forward(self, latents: Tensor) -> Tensor:
            labels = torch.full((latents.shape[0],), 3)  # a trace gives them the type of a float
            return super().forward(latents * self.embedding(labels))

    network = FixedLabel()
    assert not write(network, tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    latents = torch.randn(5, LATENT_DIM)
    images, _ = session.run(None, {"latents": latents.numpy()})
    np.testing.assert_allclose(images, network(latents).detach().numpy(), atol=2e-5)


@pytest.mark.parametrize("error", [onnx.checker.ValidationError, onnx.shape_inference.InferenceError])
def test_a_graph_that_onnx_refuses_twice_gives_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def refuse(model: object, **settings: bool) -> None:
        raise error("first line\nsecond line")

    monkeypatch.setattr("onnx.checker.check_model", refuse)
    with pytest.raises(
        ExportError, match=r"^PyTorch wrote an invalid ONNX graph of the network \(.*first line\); use other layers$"
    ):
        write(FlatGenerator(), tmp_path)
    assert not (tmp_path / "model.onnx").exists()


def test_a_branch_that_a_trace_would_hide_is_refused(tmp_path: Path) -> None:
    class Branching(FlatGenerator):
        def forward(self, latents: Tensor) -> Tensor:
            images = super().forward(latents)
            return images if latents.max() < 100 else images[:1]  # no random latent shows it

    with pytest.raises(ExportError, match="must not depend on the values"):
        write(Branching(), tmp_path)


def test_a_trace_writes_nothing_to_the_console(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        assert write(SpatialLatents(TutorialGenerator()), tmp_path)
    assert not caught
    assert capfd.readouterr() == ("", "")
