"""Pictures for people: the service ganserve.v1.Generator as addresses for browsers; a table of operations."""

from __future__ import annotations

import io
import json
from functools import partial
from typing import Final, TypeVar

import numpy as np
from google.protobuf.message import Message

from ganserve.grids import image_grid, magnified
from ganserve.v1 import generator_pb2 as pb
from server.errors import InvalidRequest
from server.generator.service import SERVICE
from server.rest.operation import Operation, Write
from server.rest.pages import CONTENT_SECURITY_POLICY, index_page
from server.rest.parameter import Parameter
from server.rest.plain import plain
from server.rest.reply import HTML, PNG, Reply, json_reply
from server.rest.sent import Sent

MAX_GRID_PIXELS: Final = 1 << 25  # of a grid; encoding takes a second or two
_MAX_IMAGES: Final = 1 << 16
_MAX_SCALE: Final = 16
_MAX_DIGITS: Final = 18  # of a number that fits into 63 bits
_PNG_LEVEL: Final = 1  # a third of the time of the default, for files that are a tenth larger

_Request = TypeVar("_Request", pb.GenerateRequest, pb.TranslateRequest, pb.DescribeModelRequest)

_MODEL: Final = Parameter("model", "Name of the model; /v1/models lists all.")
_VERSION: Final = Parameter(
    "version", "Number of the version, or a label; by default, the default version.", default=""
)
_SEED: Final = Parameter("seed", "The same seed gives the same images.", "integer", 0)
_COLUMNS: Final = Parameter(
    "columns", "Images per line; by default, the grid is a square.", "integer", 0, maximum=_MAX_IMAGES
)
_SCALE: Final = Parameter("scale", "Magnifies each pixel.", "integer", 1, 1, _MAX_SCALE)
_COUNT: Final = Parameter("n", "Number of images.", "integer", 64, 1, _MAX_IMAGES)
_RESIZE: Final = Parameter(
    "resize", "Whether a picture of another size is resized and cropped.", "boolean", default=True
)


def _with_version(request: _Request, sent: Sent) -> _Request:
    """Adds the version to a request, a number or a label."""
    text = sent.text("version")
    if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS:
        request.version = int(text)
    else:
        request.version_label = text
    return request


def _list(_: Sent) -> tuple[Message, Write]:
    return pb.ListModelsRequest(), lambda answer: json_reply(plain(pb.ListModelsResponse.FromString(answer)))


def _index(_: Sent) -> tuple[Message, Write]:
    policy = [("content-security-policy", CONTENT_SECURITY_POLICY)]
    return pb.ListModelsRequest(), lambda answer: Reply(
        [index_page(pb.ListModelsResponse.FromString(answer).models)], HTML, headers=policy
    )


def _describe(sent: Sent) -> tuple[Message, Write]:
    def write(answer: bytes) -> Reply:
        values = plain(pb.DescribeModelResponse.FromString(answer))
        return json_reply({**values, "card": json.loads(values["card"])})

    return _with_version(pb.DescribeModelRequest(model=sent.text("model")), sent), write


def _image(sent: Sent) -> tuple[Message, Write]:
    seeded = pb.SeededLatents(seed=sent.number("seed"), count=1)
    request = pb.GenerateRequest(model=sent.text("model"), seeded=seeded, format=pb.IMAGE_FORMAT_PNG)
    return _with_version(request, sent), partial(_write_first, kind=pb.GenerateResponse)


def _write_first(answer: bytes, kind: type[pb.GenerateResponse | pb.TranslateResponse]) -> Reply:
    return Reply([kind.FromString(answer).encoded.data[0]], PNG)


def _grid(sent: Sent) -> tuple[Message, Write]:
    seeded = pb.SeededLatents(seed=sent.number("seed"), count=sent.number("n"))
    request = pb.GenerateRequest(model=sent.text("model"), seeded=seeded, format=pb.IMAGE_FORMAT_PIXELS)
    write = partial(_write_grid, columns=sent.number("columns"), scale=sent.number("scale"))
    return _with_version(request, sent), write


def _write_grid(answer: bytes, columns: int, scale: int) -> Reply:
    tensor = pb.GenerateResponse.FromString(answer).images
    pixels = np.frombuffer(tensor.data, np.uint8).reshape(tensor.shape)
    rows, height, width, _ = pixels.shape
    if (size := rows * height * width * scale * scale) > MAX_GRID_PIXELS:
        raise InvalidRequest(f"the grid has {size} pixels, and may have {MAX_GRID_PIXELS}: lower n or scale")
    file = io.BytesIO()
    image_grid(magnified(pixels, scale), columns or None).save(file, "PNG", compress_level=_PNG_LEVEL)
    return Reply([file.getbuffer()], PNG)


def _translate(sent: Sent) -> tuple[Message, Write]:
    request = pb.TranslateRequest(
        model=sent.text("model"),
        encoded=pb.EncodedImages(data=[sent.body]),
        resize=bool(sent.values["resize"]),
        format=pb.IMAGE_FORMAT_PNG,
    )
    return _with_version(request, sent), partial(_write_first, kind=pb.TranslateResponse)


def operations() -> list[Operation]:
    """Returns the table."""
    listing, describing = f"/{SERVICE}/ListModels", f"/{SERVICE}/DescribeModel"
    generating, translating = f"/{SERVICE}/Generate", f"/{SERVICE}/Translate"
    picture = {"type": "string", "format": "binary"}
    return [
        Operation("GET", "/", listing, "A page with links to the models.", _index, gives=(HTML,)),
        Operation("GET", "/v1/models", listing, "The served versions of all models.", _list),
        Operation("GET", "/v1/models/{model}", describing, "One model, with its card.", _describe, [_MODEL, _VERSION]),
        Operation(
            "GET",
            "/v1/models/{model}/image.png",
            generating,
            "One image.",
            _image,
            [_MODEL, _SEED, _VERSION],
            gives=(PNG,),
        ),
        Operation(
            "GET",
            "/v1/models/{model}/grid.png",
            generating,
            "Many images in one picture.",
            _grid,
            [_MODEL, _COUNT, _SEED, _VERSION, _COLUMNS, _SCALE],
            gives=(PNG,),
            is_slow=True,
        ),
        Operation(
            "POST",
            "/v1/models/{model}/translate",
            translating,
            "A picture from a picture, a PNG or JPEG file as the body.",
            _translate,
            [_MODEL, _RESIZE, _VERSION],
            {PNG: picture, "image/jpeg": picture},
            (PNG,),
        ),
    ]
