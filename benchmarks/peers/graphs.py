"""The models that every server serves: untrained weights with realistic activations, exported once for all servers."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import onnx
import torch
from onnx.utils import extract_model
from torch import nn

from benchmarks.peers.served_graph import ServedGraph
from exporter.export import export, plan_export
from exporter.onnx_graph import OPSET
from exporter.source import Source
from ganserve.bundle import INPUT_LATENTS, ONNX_FILE, OUTPUT_IMAGES, LatentInput
from trainer.presets import choose_preset

# name here -> model and preset of the trainer
MODELS: Final = {"gan28": ("gan", "mlp-fmnist"), "dcgan64": ("dcgan", "dcgan64-k4")}
_CALIBRATION_BATCHES = 4
_CALIBRATION_ROWS = 64


def make_graphs(
    folder: Path, names: Sequence[str], *, variants: Sequence[str] = (), plain_export: bool = False
) -> list[ServedGraph]:
    """Makes the files of these models, keys of `MODELS`, under `folder`.

    Args:
        folder: an empty folder.
        names: the models.
        variants: reduced precisions to add to our bundles.
        plain_export: give the rivals the graph of `torch.onnx.export(dynamo=False)` for the same weights, as users
            without our exporter have it. Otherwise they get the graph of our bundle without the pixel output, because
            ONNX Runtime computes every node of a graph, even for outputs that a request leaves out.
    """
    return [_make_graph(folder / name, name, variants, plain_export=plain_export) for name in names]


def _make_graph(folder: Path, name: str, variants: Sequence[str], *, plain_export: bool) -> ServedGraph:
    model, preset = MODELS[name]
    config = choose_preset(model, preset, None)
    torch.manual_seed(0)
    generator = config.build_generator()
    latent_dim = config.network.latent_dim
    _calibrate(generator, latent_dim)
    source = Source(
        network=generator,
        input=LatentInput(latent_dim=latent_dim),
        name=name,
        kind=model,
        architecture=config.network.architecture,
        dataset="",
    )
    repository = folder / "models"
    version_folder, card = export(source, plan_export(repository, name, None, variants=variants))
    graph = folder / f"{name}.onnx"
    if plain_export:
        _export_plainly(generator, latent_dim, graph)
    else:
        extract_model(version_folder / ONNX_FILE, graph, [INPUT_LATENTS], [OUTPUT_IMAGES])
    onnx.checker.check_model(onnx.load(graph))
    left_out = tuple(precision for precision, fidelity in card.variants.items() if not fidelity.published)
    return ServedGraph(name, latent_dim, (card.channels, card.height, card.width), repository, graph, left_out)


def _calibrate(generator: nn.Module, latent_dim: int) -> None:
    """Sets each BatchNorm to the statistics of its input; with initial statistics, images fade to 0 layer by layer."""
    norms: Any = [module for module in generator.modules() if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average
    generator.train()
    with torch.no_grad():
        for _ in range(_CALIBRATION_BATCHES):
            generator(torch.randn(_CALIBRATION_ROWS, latent_dim))
    generator.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _export_plainly(generator: nn.Module, latent_dim: int, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # deprecated, but still common
        torch.onnx.export(
            generator,
            (torch.randn(2, latent_dim),),
            path,
            dynamo=False,
            input_names=[INPUT_LATENTS],
            output_names=[OUTPUT_IMAGES],
            dynamic_axes={INPUT_LATENTS: {0: "rows"}, OUTPUT_IMAGES: {0: "rows"}},
            opset_version=OPSET,
        )
