"""One export from beginning to end: fold, write the files, prove them, publish. Reads like a table of contents."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

from exporter.errors import InputError, ParityError
from exporter.fold import count_batch_norms, fold_batch_norms
from exporter.graph import ServedGraph, served_graph
from exporter.onnx_graph import write_onnx
from exporter.output_check import check_output
from exporter.source import Source
from exporter.torchscript import write_torchscript
from exporter.variants import Announce, build_variant
from exporter.verify import prove_parity
from ganserve import bundle
from ganserve.bundle import ONNX_FILE, TORCHSCRIPT_FILE, VARIANT_FILES, BundleError, Card, Parity, RowInput
from ganserve.foreign import version_of

_EXAMPLE_ROWS = 3  # of the traced batch: any number that no layer has, and above 1
_TOOLS = {name: (name,) for name in ("torch", "onnx", "onnxscript", "ganserve")} | {
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime")
}


@dataclass(frozen=True)
class Plan:
    """Where an export goes."""

    repository: Path
    name: str
    version: int
    fold: bool = True
    variants: tuple[str, ...] = ()  # reduced precisions to add, keys of VARIANTS


def plan_export(
    repository: Path, name: str, version: int | None, *, fold: bool = True, variants: Sequence[str] = ()
) -> Plan:
    """Checks the name, and picks the next free version if none is given.

    Raises:
        BundleError: the name cannot be one.
        InputError: the version exists.
    """
    (plan,) = plan_exports(repository, [name], version, fold=fold, variants=variants)
    return plan


def plan_exports(
    repository: Path, names: Sequence[str], version: int | None, *, fold: bool = True, variants: Sequence[str] = ()
) -> list[Plan]:
    """Plans one version of each name, all of the same number: the given one, or the next that is free for all.

    Raises:
        BundleError: a name cannot be one.
        InputError: the version exists.
    """
    taken = {name: bundle.list_versions(repository, name) for name in names}
    for name, versions in taken.items():
        if version in versions:
            raise InputError(
                f"--version {version}: {bundle.version_folder(repository, name, version)} exists already;"
                " leave --version out for the next free one"
            )
    newest = max((max(versions, default=0) for versions in taken.values()), default=0)
    return [Plan(repository, name, version or newest + 1, fold, tuple(variants)) for name in names]


def export(source: Source, plan: Plan, announce: Announce = lambda step: None) -> tuple[Path, Card]:
    """Exports and publishes one network; see `export_all`."""
    (published,) = export_all([(source, plan)], announce)
    return published


def export_all(
    exports: Sequence[tuple[Source, Plan]], announce: Announce = lambda step: None
) -> list[tuple[Path, Card]]:
    """Exports and publishes the networks of a run, or anyone's one; returns each version's folder and card.

    Nothing is left in the repository unless all files of all networks match. Variants in reduced precision are left
    out if they are not close enough; their cards say so.

    Args:
        exports: the networks, and where they go.
        announce: called with the name of each step as it begins.

    Raises:
        ExportError: a network cannot be exported, or a file does not match it.
        BundleError: the repository does not take one.
    """
    with ExitStack() as stack:
        proven: list[tuple[Path, Card]] = []
        for source, plan in exports:
            staged = stack.enter_context(bundle.staging_folder(plan.repository))
            of_one = announce if len(exports) == 1 else _named(announce, plan.name)
            proven.append((staged, _build(source, plan, staged, of_one)))
        announce("publish")
        for (_, plan), (staged, card) in zip(exports, proven, strict=True):
            bundle.check_publishable(plan.repository, staged, card)
        published: list[tuple[Path, Card]] = []
        for (_, plan), (staged, card) in zip(exports, proven, strict=True):
            try:
                published.append((bundle.publish(plan.repository, staged, card), card))
            except BundleError as error:
                if not published:
                    raise
                folders = ", ".join(str(folder) for folder, _ in published)
                raise BundleError(f"{error}; already published: {folders}") from error
        return published


def _named(announce: Announce, name: str) -> Announce:
    """Tells the steps of one network from those of the others."""
    return lambda step: announce(f"{name}: {step}")


def _build(source: Source, plan: Plan, staged: Path, announce: Announce) -> Card:
    """Writes and proves all files in `staged`; returns their card."""
    announce("check the images")
    channels, height, width = check_output(source)
    reference = served_graph(source.network, source.input, source.value_min, source.value_max)
    rows = torch.from_numpy(bundle.example_rows(source.input, 0, _EXAMPLE_ROWS))

    graph = fold_batch_norms(reference) if plan.fold else reference
    total, left = count_batch_norms(reference), count_batch_norms(graph)
    announce(f"fold {total - left} of {total} BatchNorms")
    announce("write TorchScript")
    write_torchscript(graph, rows, staged / TORCHSCRIPT_FILE)
    announce("write ONNX")
    write_onnx(graph, source.input.name, rows, staged / ONNX_FILE)
    announce("prove that both match eager PyTorch")
    parity = _prove(reference, staged, source.input, folded=total > left)
    variants = {
        precision: build_variant(precision, source, reference, rows, staged, announce, fold=plan.fold)
        for precision in plan.variants
    }
    files = [ONNX_FILE, TORCHSCRIPT_FILE]
    files += [VARIANT_FILES[precision] for precision, fidelity in variants.items() if fidelity.published]
    return Card(
        name=plan.name,
        version=plan.version,
        kind=source.kind,
        architecture=source.architecture,
        dataset=source.dataset,
        input=source.input,
        channels=channels,
        height=height,
        width=width,
        value_min=source.value_min,
        value_max=source.value_max,
        files={name: bundle.sha256_of(staged / name) for name in files},
        parity=parity,
        variants=variants,
        training=_finite(source.training),
        tool_versions=_tool_versions(),
    )


def _prove(reference: ServedGraph, staged: Path, row_input: RowInput, *, folded: bool) -> list[Parity]:
    try:
        return prove_parity(reference, staged, row_input)
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
    versions = {tool: version_of(*packages) for tool, packages in _TOOLS.items()}
    return {"python": platform.python_version()} | versions
