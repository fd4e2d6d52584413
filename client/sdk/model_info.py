"""Parses and validates what a server reports about its models."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn

from client.errors import invalid_response
from ganserve.latents import NORMAL
from ganserve.v1 import generator_pb2

Task = Literal["generate", "translate", "unknown"]

MAX_SIDE: Final = 1 << 20  # pixels; also the limit of latent_dim

_TASKS: Final[dict[int, Task]] = {
    generator_pb2.TASK_UNSPECIFIED: "generate",  # from servers that know no other task
    generator_pb2.TASK_GENERATE: "generate",
    generator_pb2.TASK_TRANSLATE: "translate",
}


@dataclass(frozen=True)
class ModelInfo:
    """A model that the server is ready to serve; the fields are those of `Model` in the .proto file.

    The task "generate" turns latents into images: the three `input_` fields are 0. The task "translate" turns images
    into images: `latent_dim` is 0. The task "unknown" needs a newer client; its sizes are not checked.
    """

    name: str
    version: int
    kind: str
    architecture: str
    dataset: str
    task: Task
    latent_dim: int
    latent_distribution: str
    input_channels: int
    input_height: int
    input_width: int
    channels: int
    height: int
    width: int
    device: str
    backend: str
    max_request_rows: int  # 0: unknown
    max_request_bytes: int  # of latents, pixels or files; 0: unknown
    version_labels: tuple[str, ...] = ()  # that the operator gave to this version
    is_default: bool = False  # whether requests that name no version get this one; never with older servers

    @property
    def prior(self) -> str:
        """The distribution that a seed draws from; the client can draw those in `ganserve.latents.DISTRIBUTIONS`."""
        return self.latent_distribution or NORMAL


def models_from(response: generator_pb2.ListModelsResponse) -> list[ModelInfo]:
    """The models of a response, in the server's order.

    Raises:
        ServerFault: One is invalid.
    """
    return [model_from(model) for model in response.models]


def model_from(model: generator_pb2.Model) -> ModelInfo:
    """One model of a response.

    Raises:
        ServerFault: It is invalid.
    """
    texts = (model.name, model.kind, model.architecture, model.dataset, model.device, model.backend)
    if not model.name or not all(
        text.isprintable() for text in (*texts, model.latent_distribution, *model.version_labels)
    ):
        raise invalid_response(f"it lists a model {model.name!r:.80} with an empty name or unprintable text")
    task = _TASKS.get(model.task, "unknown")
    translates = task == "translate"
    if model.version < 1 or (task != "unknown" and not _has_sizes_of(task, model)):
        raise invalid_response(f"it lists the model {model.name!r:.80} with a size or version out of range")
    return ModelInfo(
        name=model.name,
        version=model.version,
        kind=model.kind,
        architecture=model.architecture,
        dataset=model.dataset,
        task=task,
        latent_dim=model.latent_dim,
        latent_distribution=model.latent_distribution,
        input_channels=model.input_image.channels if translates else 0,
        input_height=model.input_image.height if translates else 0,
        input_width=model.input_image.width if translates else 0,
        channels=model.channels,
        height=model.height,
        width=model.width,
        device=model.device,
        backend=model.backend,
        max_request_rows=model.max_request_rows,
        max_request_bytes=model.max_request_bytes,
        version_labels=tuple(model.version_labels),
        is_default=model.is_default,
    )


def selected(models: Iterable[ModelInfo], name: str, version: int | str | None) -> ModelInfo | None:
    """The version of this name and number or label, the default version for None; None if `models` lacks it."""
    fitting = (
        model
        for model in models
        if model.name == name and (version in (None, model.version) or version in model.version_labels)
    )
    return max(fitting, key=lambda model: (model.is_default, model.version), default=None)


def _has_sizes_of(task: Task, model: generator_pb2.Model) -> bool:
    if model.max_request_rows < 0 or model.max_request_bytes < 0 or not _is_image_shape(model):
        return False
    if task == "translate":
        return model.latent_dim == 0 and _is_image_shape(model.input_image)
    return 1 <= model.latent_dim <= MAX_SIDE


def _is_image_shape(shape: generator_pb2.Model | generator_pb2.ImageShape) -> bool:
    return 1 <= shape.channels <= 4 and 1 <= shape.height <= MAX_SIDE and 1 <= shape.width <= MAX_SIDE


MAX_CARD_BYTES: Final = 4 << 20  # of its JSON text; exporters write at most a quarter of that

_MAX_DEPTH: Final = 16  # of nested lists and objects; cards have 3
_MAX_FILES: Final = 1000


@dataclass(frozen=True)
class ModelDescription:
    """One served model and its card.

    `card` is the JSON object that was published with the model. Its text is printable, and its `name` and `version` are
    the model's; fields may be missing, and newer exporters add some.
    """

    model: ModelInfo
    card: dict[str, Any]
    file_bytes: dict[str, int]  # sizes of the model's files
    precision: str  # of large batches: "fp32", "bf16", "fp16"; empty: unknown
    ready: bool  # False while an engine is being rebuilt


def description_from(
    request: generator_pb2.DescribeModelRequest, response: generator_pb2.DescribeModelResponse
) -> ModelDescription:
    """The description in a response.

    Raises:
        ServerFault: It describes a model other than the requested one, or is invalid.
    """
    model = model_from(response.model)
    label = request.version_label
    is_wanted = label in model.version_labels if label else request.version in (0, model.version)
    if model.name != request.model or not is_wanted:
        version = label or request.version
        wanted = f"{request.model!r:.80}:{version}" if version else f"{request.model!r:.80}"
        raise invalid_response(f"it describes {model.name!r:.80}:{model.version}, not {wanted}")
    sizes = dict(response.file_bytes)
    if len(sizes) > _MAX_FILES or any(size < 0 or not name.isprintable() for name, size in sizes.items()):
        raise invalid_response(f"it describes {model.name!r:.80} with invalid files")
    if not response.precision.isprintable():
        raise invalid_response(f"it describes {model.name!r:.80} with unprintable text")
    return ModelDescription(
        model=model,
        card=_card_from(response.card, model),
        file_bytes=sizes,
        precision=response.precision,
        ready=response.ready,
    )


def _card_from(text: str, model: ModelInfo) -> dict[str, Any]:
    if len(text) > MAX_CARD_BYTES:
        raise invalid_response(f"its card of {model.name!r:.80} has {len(text)} characters")
    try:
        card = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise invalid_response(f"its card of {model.name!r:.80} is not JSON ({error!s:.80})") from error
    if not isinstance(card, dict):
        raise invalid_response(f"its card of {model.name!r:.80} is not a JSON object")
    _check_values(card, model.name)
    if card.get("name") != model.name or card.get("version") != model.version:
        raise invalid_response(f"its card of {model.name!r:.80}:{model.version} belongs to another model")
    return card


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}")


def _check_values(card: dict[str, Any], model: str) -> None:
    level: list[Any] = [card]
    for _ in range(_MAX_DEPTH):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, str) and not value.isprintable():
                raise invalid_response(f"its card of {model!r:.80} holds unprintable text")
            if isinstance(value, float) and not math.isfinite(value):  # JSON can hold numbers too large for a float
                raise invalid_response(f"its card of {model!r:.80} holds a number that is too large")
            if isinstance(value, dict):
                inner += value.keys()
                inner += value.values()
            elif isinstance(value, list):
                inner += value
        level = inner
    if level:
        raise invalid_response(f"its card of {model!r:.80} is nested more than {_MAX_DEPTH} levels deep")
