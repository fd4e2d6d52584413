"""The Translate tab: translates a picture with an image-to-image model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from client.errors import InvalidRequest, one_line
from client.explore.commands_text import file_stem
from client.explore.explorer import Explorer
from client.explore.guard import Guard
from client.explore.html import figure, plain_picture, png_of, side_by_side
from client.files.picture_files import MAX_PIXELS
from client.sdk.input_images import MAX_REQUEST_IMAGE_BYTES
from ganserve.pictures import UnreadablePictureError, decode_picture, fit_picture


class TranslatePanel:
    """The contents of the Translate tab."""

    def __init__(self, explorer: Explorer, guard: Guard, pick: gr.Dropdown) -> None:
        self._explorer = explorer
        self._file = gr.File(
            label="Drop a PNG or JPEG picture here, or click",
            type="filepath",
            height=140,
            elem_id="picture-file",
        )
        self.pair = gr.HTML(elem_id="translation", apply_default_css=False)
        event: dict[str, Any] = {
            "fn": guard(self.translate),
            "inputs": [pick, self._file],
            "outputs": guard.outputs([self.pair]),
        }
        self._file.upload(**event)
        self._file.clear(lambda: "", None, self.pair, queue=False)
        self.event = event

    def translate(self, key: str, path: str | None) -> tuple[Any, ...]:
        """Shows the picture as the model sees it, and its translation."""
        if path is None:
            return ("",)
        model = self._explorer.find(key, "translate")
        file = _bytes_of(Path(path))
        name = Path(path).name
        try:
            picture = decode_picture(file, formats=("PNG", "JPEG"), max_pixels=MAX_PIXELS)
        except (UnreadablePictureError, MemoryError) as error:
            raise InvalidRequest(f"{one_line(name)}: cannot be read ({error}); drop a PNG or JPEG picture") from error
        made = self._explorer.translation(model, file)
        seen = fit_picture(picture, model.input_width, model.input_height)
        seen = seen.convert("L" if model.input_channels == 1 else "RGB")
        stem = file_stem(model, "translation")
        command = self._explorer.commands.translate(model, name, stem)
        shown = [plain_picture(png_of(seen), "input"), figure(made, stem, "translation", command)]
        return (side_by_side(shown),)


def _bytes_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_REQUEST_IMAGE_BYTES + 1)
    except OSError as error:
        raise InvalidRequest(f"{one_line(path.name)}: cannot be read ({error.strerror}); drop it again") from error
    if len(data) > MAX_REQUEST_IMAGE_BYTES:
        raise InvalidRequest(
            f"{one_line(path.name)}: is larger than {MAX_REQUEST_IMAGE_BYTES} bytes, the limit of a request; make it"
            " smaller"
        )
    return data
