"""One export from beginning to end: fold, write both files, prove them, publish. Reads like a table of contents."""

from __future__ import annotations

import importlib.metadata
import math
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from exporter import bundle
from exporter.bundle import ONNX_FILE, TORCHSCRIPT_FILE, Card, Parity
from exporter.errors import InputError, ParityError
from exporter.fold import count_batch_norms, fold_batch_norms
from exporter.graph import ServedGenerator
from exporter.onnx_graph import write_onnx
from exporter.output_check import check_output
from exporter.source import Source
from exporter.torchscript import write_torchscript
from exporter.verify import prove_parity
from ganserve.latents import latents_from_seed

_EXAMPLE_ROWS = 3  # of the traced batch: any number that no layer has, and above 1
_TOOLS = ("torch", "onnx", "onnxscript", "onnxruntime", "ganserve")


@dataclass(frozen=True)
class Plan:
    """Where an export goes."""

    repository: Path
    name: str
    version: int
    fold: bool = True


def plan_export(repository: Path, name: str, version: int | None, *, fold: bool = True) -> Plan:
    """Checks the name, and picks the next free version if none is given.

    Raises:
        BundleError: the name cannot be one.
        InputError: the version exists.
    """
    versions = bundle.list_versions(repository, name)
    if version in versions:
        raise InputError(
            f"--version {version}: {bundle.version_folder(repository, name, version)} exists already;"
            " leave --version out for the next free one"
        )
    return Plan(repository, name, version or max(versions, default=0) + 1, fold)


def export(source: Source, plan: Plan, announce: Callable[[str], None] = lambda step: None) -> tuple[Path, Card]:
    """Exports and publishes a generator; returns its version's folder and card.

    Nothing is left in the repository unless both files match the generator.

    Args:
        source: the generator.
        plan: where it goes.
        announce: called with the name of each step as it begins.

    Raises:
        ExportError: the generator cannot be exported, or a file does not match it.
        BundleError: the repository does not take it.
    """
    announce("check the generator's images")
    channels, height, width = check_output(source)
    reference = ServedGenerator(source.generator, source.value_min, source.value_max).eval()
    example_latents = torch.from_numpy(latents_from_seed(0, _EXAMPLE_ROWS, source.latent_dim))

    graph = fold_batch_norms(reference) if plan.fold else reference
    total, left = count_batch_norms(reference), count_batch_norms(graph)
    announce(f"fold {total - left} of {total} BatchNorms")

    with bundle.staging_folder(plan.repository) as staged:
        announce("write TorchScript")
        write_torchscript(graph, example_latents, staged / TORCHSCRIPT_FILE)
        announce("write ONNX")
        write_onnx(graph, example_latents, staged / ONNX_FILE)
        announce("prove that both match eager PyTorch")
        parity = _prove(reference, staged, source.latent_dim, folded=total > left)
        announce("publish")
        card = Card(
            name=plan.name,
            version=plan.version,
            kind=source.kind,
            architecture=source.architecture,
            dataset=source.dataset,
            latent_dim=source.latent_dim,
            channels=channels,
            height=height,
            width=width,
            value_min=source.value_min,
            value_max=source.value_max,
            files={name: bundle.sha256_of(staged / name) for name in (ONNX_FILE, TORCHSCRIPT_FILE)},
            parity=parity,
            training=_finite(source.training),
            tool_versions=_tool_versions(),
        )
        return bundle.publish(plan.repository, staged, card), card


def _prove(reference: ServedGenerator, staged: Path, latent_dim: int, *, folded: bool) -> list[Parity]:
    try:
        return prove_parity(reference, staged, latent_dim)
    except ParityError as error:
        if not folded:
            raise
        # Folding takes it that a Sequential is called as a whole.
        raise ParityError(f"{error}; if forward calls the layers of a Sequential one by one, try --no-fold") from error


def _finite(training: Mapping[str, float | int | str | None]) -> dict[str, float | int | str | None]:
    """JSON has no NaN and no infinity: a metric that is neither known nor finite is null."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in training.items()
    }


def _tool_versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for tool in _TOOLS:
        try:
            versions[tool] = importlib.metadata.version(tool)
        except importlib.metadata.PackageNotFoundError:  # onnxruntime-gpu provides onnxruntime under its own name
            versions[tool] = _module_version(tool)
    return versions


def _module_version(tool: str) -> str:
    return str(getattr(importlib.import_module(tool), "__version__", "unknown"))
