"""One export from start to end: fold, write the files, verify them, publish."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from torch import Tensor, nn

from exporter.errors import InputError, ParityError
from exporter.fold import count_batch_norms, fold_batch_norms
from exporter.graph import ServedGraph
from exporter.onnx_graph import write_onnx
from exporter.sample import write_sample
from exporter.source import Source
from exporter.torchscript import write_torchscript
from exporter.variants import Announce, build_variant
from exporter.verify import check_output, image_tolerance, prove_parity
from ganserve import bundle
from ganserve.bundle import ONNX_FILE, SAMPLE_FILE, TORCHSCRIPT_FILE, VARIANT_FILES, Card, LatentInput, Parity, RowInput
from ganserve.foreign import first_line, version_of

_EXAMPLE_ROWS = 3  # traced batch: above 1, and unlikely to be the size of a layer
_TOOLS = {name: (name,) for name in ("torch", "onnx", "onnxscript", "ganserve")} | {
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime")
}


@dataclass(frozen=True)
class Plan:
    """Where an export goes, and how it is made."""

    repository: Path
    name: str
    version: int
    fold: bool = True
    variants: tuple[str, ...] = ()  # reduced precisions to add, keys of VARIANTS
    license: str = ""  # for the card; one line, at most MAX_STATEMENT characters
    intended_use: str = ""  # as `license`


def plan_export(
    repository: Path, name: str, version: int | None, *, fold: bool = True, variants: Sequence[str] = ()
) -> Plan:
    """Plans one version of one model; see `plan_exports`."""
    (plan,) = plan_exports(repository, [name], version, fold=fold, variants=variants)
    return plan


def plan_exports(
    repository: Path, names: Sequence[str], version: int | None, *, fold: bool = True, variants: Sequence[str] = ()
) -> list[Plan]:
    """Plans one version of each model, all with the same number: `version`, or the next one that is free for all.

    Raises:
        BundleError: A name is invalid.
        InputError: The version exists.
    """
    taken = {name: bundle.list_versions(repository, name) for name in names}
    for name, versions in taken.items():
        if version in versions:
            raise InputError(
                f"--version {version}: {bundle.version_folder(repository, name, version)} already exists;"
                " omit --version to use the next free one"
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
    """Exports and publishes one or more networks; returns the folder and the card of each version.

    Publishes nothing unless all files of all networks match. Leaves out variants in reduced precision that are not
    close enough; the card says so.

    Args:
        exports: The networks and their plans, all for one repository.
        announce: Called with the name of each step as it begins.

    Raises:
        ExportError: A network cannot be exported, or a file does not match it.
        BundleError: The repository does not accept a version.
    """
    announce("check the images")
    drafts = []
    for source, plan in exports:
        drafts.append(_draft(source, plan, announce if len(exports) == 1 else _with_name(announce, plan.name)))
    for draft in drafts:
        bundle.check_publishable(exports[0][1].repository, draft)
    with ExitStack() as stack:
        staged: list[tuple[Path, Card]] = []
        for (source, plan), draft in zip(exports, drafts, strict=True):
            folder = stack.enter_context(bundle.staging_folder(plan.repository))
            announce_one = announce if len(exports) == 1 else _with_name(announce, plan.name)
            staged.append((folder, _build(source, plan, draft, folder, announce_one)))
        announce("publish")
        folders = bundle.publish(exports[0][1].repository, staged)
        return list(zip(folders, (card for _, card in staged), strict=True))


def _with_name(announce: Announce, name: str) -> Announce:
    return lambda step: announce(f"{name}: {step}")


def _reference(source: Source) -> ServedGraph:
    return ServedGraph(source.network, source.input, source.value_min, source.value_max)


def _draft(source: Source, plan: Plan, announce: Announce) -> Card:
    """Checks the network's images; returns its card, still without files and measurements."""
    channels, height, width = check_output(source, _reference(source), announce)
    return Card(
        name=plan.name,
        version=plan.version,
        kind=source.kind,
        architecture=source.architecture,
        dataset=source.dataset,
        license=plan.license,
        intended_use=plan.intended_use,
        input=source.input,
        channels=channels,
        height=height,
        width=width,
        value_min=source.value_min,
        value_max=source.value_max,
        files={},
        parity=[],
        training={  # JSON has no NaN and no infinity
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in source.training.items()
        },
        tool_versions={
            "python": platform.python_version(),
            **{tool: version_of(*packages) for tool, packages in _TOOLS.items()},
        },
    )


def _build(source: Source, plan: Plan, draft: Card, staged: Path, announce: Announce) -> Card:
    """Writes and verifies all files in `staged`; returns their card."""
    reference = _reference(source)
    rows = torch.from_numpy(bundle.example_rows(source.input, 0, _EXAMPLE_ROWS))

    graph = _folded(reference, rows, announce) if plan.fold else reference
    announce("write TorchScript")
    write_torchscript(graph, rows, staged / TORCHSCRIPT_FILE)
    parity = _write_onnx_and_compare(graph, reference, source.input, rows, staged, announce)
    variants = {
        precision: build_variant(precision, source, reference, rows, staged, announce, fold=graph is not reference)
        for precision in plan.variants
    }
    if isinstance(source.input, LatentInput):
        write_sample(reference, source.input, draft.height, draft.width, staged / SAMPLE_FILE)
    files = [ONNX_FILE, TORCHSCRIPT_FILE]
    files += [VARIANT_FILES[precision] for precision, fidelity in variants.items() if fidelity.published]
    return msgspec.structs.replace(
        draft,
        files={name: bundle.sha256_of(staged / name) for name in files},
        parity=parity,
        variants=variants,
    )


def _folded(reference: ServedGraph, rows: Tensor, announce: Announce) -> ServedGraph:
    """The graph with its BatchNorms folded; the graph itself if the folded one would make other images.

    Folding assumes that forward calls a Sequential, not its layers one by one.
    """
    graph = fold_batch_norms(reference)
    assert isinstance(graph, ServedGraph)
    total, left = count_batch_norms(reference), count_batch_norms(graph)
    if total > left:
        try:
            with torch.no_grad():
                difference = float((graph.images(rows) - reference.images(rows)).abs().max())
        except Exception as error:  # noqa: BLE001  # the user's code may raise anything
            announce(f"fold no BatchNorm: with folded layers, forward fails ({first_line(error)})")
            return reference
        if not difference <= image_tolerance(reference) / 2:  # the rest is for the runtimes
            announce(f"fold no BatchNorm: it would change the images by up to {difference:.2g}")
            return reference
    announce(f"fold {total - left} of {total} BatchNorms")
    return graph


def _write_onnx_and_compare(
    graph: nn.Module,
    reference: ServedGraph,
    row_input: RowInput,
    example_rows: Tensor,
    staged: Path,
    announce: Announce,
) -> list[Parity]:
    """Writes `ONNX_FILE` from a trace if that matches the network, otherwise with torch.export; compares both files."""
    announce("write ONNX")
    traced = write_onnx(graph, row_input.name, example_rows, staged / ONNX_FILE)
    announce("compare both files with eager PyTorch")
    try:
        return prove_parity(reference, staged, row_input)
    except ParityError:
        if not traced:
            raise
    announce("write ONNX with torch.export")
    write_onnx(graph, row_input.name, example_rows, staged / ONNX_FILE, from_trace=False)
    announce("compare both files with eager PyTorch")
    return prove_parity(reference, staged, row_input)
