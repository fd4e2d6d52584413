"""Turns the description of a model into titled sections of short texts.

Cards are untrusted: a field of unexpected form is shown as it is, and never raises.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from client.sdk.model_info import ModelDescription, ModelInfo
from ganserve.metrics import METRICS
from ganserve.wording import counted

_NONE: Final = "-"
_MAX_TEXT: Final = 200  # characters shown of a value
_SHOWN_ELSEWHERE: Final = (
    *("schema_version", "name", "version", "kind", "architecture", "dataset", "license", "intended_use", "input"),
    *("channels", "height", "width", "value_min", "value_max"),
)
_STATEMENTS: Final = {"license": "license", "intended_use": "intended use"}  # by the user who exported the model
_MAX_STATEMENT: Final = 500  # characters shown of one
_TRAINING: Final = {"step": "steps", "images_seen": "images seen"}
_GRAPHS: Final = {"ONNX": "onnx", "TorchScript": "torchscript"}  # prefixes of the fields of `parity`

_Kind = TypeVar("_Kind", dict[str, Any], list[Any])


@dataclass(frozen=True)
class Section:
    """A title and its lines; the first text of each line is its label."""

    title: str
    lines: list[tuple[str, ...]]


def sections_of(model: ModelInfo, description: ModelDescription | None) -> list[Section]:
    """The sections of a model, without empty ones; `description` is None if the server cannot describe models."""
    sections = [_summary(model, {} if description is None else description.card), _serving(model, description)]
    if description is not None:
        sections += _card_sections(description)
    return [section for section in sections if section.lines]


def _summary(model: ModelInfo, card: dict[str, Any]) -> Section:
    trained = f"{model.kind}, " if model.kind else ""
    lines = [
        ("kind", f"{trained}architecture {model.architecture or _NONE}"),
        *_shapes(model),
        ("data set", model.dataset or _NONE),
        *((label, _shown(card[key], _MAX_STATEMENT)) for key, label in _STATEMENTS.items() if card.get(key)),
    ]
    return Section(f"{model.name}, version {model.version}", lines)


def _serving(model: ModelInfo, description: ModelDescription | None) -> Section:
    lines: list[tuple[str, ...]] = [("runs on", f"{model.device or _NONE}, {model.backend or _NONE}")]
    if description is not None:
        lines.append(("precision", description.precision or _NONE))
        lines.append(("ready", "yes" if description.ready else "no: an engine is being rebuilt"))
    limits = [f"{model.max_request_rows} rows"] if model.max_request_rows else []
    limits += [f"{_size(model.max_request_bytes)} of input"] if model.max_request_bytes else []
    if limits:
        lines.append(("a request", f"at most {' and '.join(limits)}"))
    return Section("serving", lines)


def _card_sections(description: ModelDescription) -> list[Section]:
    rest = {key: value for key, value in description.card.items() if key not in _SHOWN_ELSEWHERE}
    training = _take(rest, "training", {})
    return [
        Section("training", [(_TRAINING.get(k, k), _shown(v)) for k, v in training.items() if k not in METRICS]),
        Section("metrics of this checkpoint", _metrics(training)),
        _parity(_take(rest, "parity", [])),
        Section("reduced precision", [(k, _fidelity(v)) for k, v in _take(rest, "variants", {}).items()]),
        Section("files, and their SHA-256", _files(_take(rest, "files", {}), description.file_bytes)),
        Section("exported with", [(k, _shown(v)) for k, v in _take(rest, "tool_versions", {}).items()]),
        Section("more", [(key, _shown(value)) for key, value in rest.items()]),
    ]


def _take(card: dict[str, Any], key: str, empty: _Kind) -> _Kind:
    """Removes a field from a card and returns it; a field of another type than `empty` stays."""
    if isinstance(found := card.get(key), type(empty)):
        del card[key]
        return found
    return empty


def _shapes(model: ModelInfo) -> list[tuple[str, ...]]:
    images = f"images of {model.width}x{model.height} pixels (width x height), {counted(model.channels, 'channel')}"
    match model.task:
        case "generate":
            distribution = f", {model.latent_distribution}" if model.latent_distribution else ""
            return [("takes", f"latents of {model.latent_dim} numbers{distribution}"), ("gives", images)]
        case "translate":
            taken = (
                f"images of {model.input_width}x{model.input_height} pixels, {counted(model.input_channels, 'channel')}"
            )
            return [("takes", taken), ("gives", images)]
        case "unknown":
            return [("task", "unknown to this client; update it")]


def _metrics(training: dict[str, Any]) -> list[tuple[str, ...]]:
    known = [(METRICS[name], value) for name, value in training.items() if name in METRICS]
    return [(metric.label, _shown(value), metric.meaning) for metric, value in known]


def _parity(batches: list[Any]) -> Section:
    """The largest differences over all batches: how closely the files match the trained network."""
    known = [batch for batch in batches if isinstance(batch, dict)]
    rows = [str(batch["rows"]) for batch in known if isinstance(batch.get("rows"), int)]
    lines: list[tuple[str, ...]] = []
    for label, prefix in _GRAPHS.items():
        found = [_numbers(known, f"{prefix}_{output}") for output in ("images", "pixels")]
        if all(found):
            images, pixels = (_shown(max(values)) for values in found)
            lines.append((label, f"{images} in images (float32)", f"{pixels} in pixels (0..255)"))
    return Section(f"largest difference from PyTorch, in batches of {', '.join(rows) or 'some'} rows", lines)


def _numbers(batches: list[dict[str, Any]], field: str) -> list[float]:
    values = [batch.get(field) for batch in batches]
    return [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]


def _fidelity(variant: Any) -> str:
    try:
        if not variant["images"]:
            return "not published: the network does not run in this precision"
        return (
            f"{'' if variant['published'] else 'not '}published:"
            f" {variant['within_one_level']:.3%} of pixel values within one level of float32,"
            f" PSNR {variant['psnr_db']:.1f} dB, largest difference {variant['largest_level_difference']},"
            f" over {variant['images']} images"
        )
    except (KeyError, TypeError, ValueError, OverflowError):  # an unknown form
        return _shown(variant)


def _files(hashes: dict[str, Any], sizes: dict[str, int]) -> list[tuple[str, ...]]:
    return [
        (name, _size(sizes[name]) if name in sizes else _NONE, _shown(hashes.get(name)))
        for name in sorted({*hashes, *sizes})
    ]


def _shown(value: Any, most: int = _MAX_TEXT) -> str:
    match value:
        case None | "":
            return _NONE
        case str():
            return value if len(value) <= most else value[:most] + "..."
        case float():
            return f"{value:.4g}"
        case _:
            text = json.dumps(value)
            return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "..."


def _size(size_bytes: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} bytes"
