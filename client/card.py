"""What a server says of one model: the card that was published with it, checked. No channel, no requests."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from client.errors import wrong_answer
from client.model_info import ModelInfo, model_from
from ganserve.v1 import generator_pb2

MAX_CARD_BYTES: Final = 4 << 20  # of its JSON text; exporters refuse to write a quarter of that

_MAX_DEPTH: Final = 16  # of lists and objects in one another; cards have 3
_MAX_FILES: Final = 1000


@dataclass(frozen=True)
class ModelDescription:
    """One served model: what the server says of it, and its card.

    `card` is the JSON object that was published with the model, as it was. All of its text is printable, `name` and
    `version` are the model's, and nothing else about it is certain: it may lack fields, and hold ones that only newer
    clients know.
    """

    model: ModelInfo
    card: dict[str, Any]
    file_bytes: dict[str, int]  # sizes of the model's files
    precision: str  # of large batches: "fp32", "bf16", "fp16"; empty: the server does not say
    ready: bool  # False while an engine is being rebuilt


def description_from(
    request: generator_pb2.DescribeModelRequest, response: generator_pb2.DescribeModelResponse
) -> ModelDescription:
    """The description in an answer.

    Raises:
        ServerFault: it is of another model than was asked for, or it cannot be.
    """
    model = model_from(response.model)
    if model.name != request.model or (request.version and model.version != request.version):
        wanted = f"{request.model!r:.80}:{request.version}" if request.version else f"{request.model!r:.80}"
        raise wrong_answer(f"it describes {model.name!r:.80}:{model.version}, not {wanted}")
    sizes = dict(response.file_bytes)
    if len(sizes) > _MAX_FILES or any(size < 0 or not name.isprintable() for name, size in sizes.items()):
        raise wrong_answer(f"it describes {model.name!r:.80} with files that cannot be")
    if not response.precision.isprintable():
        raise wrong_answer(f"it describes {model.name!r:.80} with unprintable text")
    return ModelDescription(
        model=model,
        card=_card_from(response.card, model),
        file_bytes=sizes,
        precision=response.precision,
        ready=response.ready,
    )


def _card_from(text: str, model: ModelInfo) -> dict[str, Any]:
    if len(text) > MAX_CARD_BYTES:
        raise wrong_answer(f"its card of {model.name!r:.80} has {len(text)} characters")
    try:
        card = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise wrong_answer(f"its card of {model.name!r:.80} is no JSON ({error!s:.80})") from error
    if not isinstance(card, dict):
        raise wrong_answer(f"its card of {model.name!r:.80} is no JSON object")
    _check_values(card, model.name)
    if card.get("name") != model.name or card.get("version") != model.version:
        raise wrong_answer(f"its card of {model.name!r:.80}:{model.version} is another model's")
    return card


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}")


def _check_values(card: dict[str, Any], model: str) -> None:
    level: list[Any] = [card]
    for _ in range(_MAX_DEPTH):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, str) and not value.isprintable():
                raise wrong_answer(f"its card of {model!r:.80} holds unprintable text")
            if isinstance(value, float) and not math.isfinite(value):  # JSON may spell numbers that no float holds
                raise wrong_answer(f"its card of {model!r:.80} holds a number that is too large")
            if isinstance(value, dict):
                inner += value.keys()
                inner += value.values()
            elif isinstance(value, list):
                inner += value
        level = inner
    if level:
        raise wrong_answer(f"its card of {model!r:.80} is nested more than {_MAX_DEPTH} times")
