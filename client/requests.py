"""Asks one model for images, in requests of a fitting size, all to the same version. Knows no files on disk."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeVar

from client.chunks import Chunk, EncodedChunk, Pace, chunks_of, max_chunk_rows, max_input_bytes
from client.connection import Connection
from client.errors import DeadlineExceeded, InvalidRequest, ServerBusy, ServerFault
from client.input_images import InputRow, row_bytes
from client.latents import Rows, SeededRows, split
from client.wire import (
    AnyFormat,
    FileFormat,
    PixelFormat,
    Response,
    files_from,
    generate_request,
    images_from,
    translate_request,
)
from ganserve.v1 import generator_pb2

BUSY_PAUSES_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0)  # about 30 s in all; more would look like a hang

_LATENT_VALUE_BYTES: Final = 4
_ROW_OF_REQUEST: Final = re.compile(r"\bencoded\.data\[(\d{1,9})\]")  # how a server names one file of a request

_Item = TypeVar("_Item")


def generated(
    connection: Connection, model: str, rows: Rows, version: int | None, image_format: AnyFormat
) -> Iterator[tuple[int, generator_pb2.GenerateResponse]]:
    """Generates all rows, in order, each request when its answer is asked for; yields (rows, answer).

    Raises:
        GanClientError: there is no such generator, or no answer.
    """
    for chunk in _split(connection, model, rows, version, image_format):
        response = connection.generate(generate_request(model, version, chunk, image_format))
        version = response.version  # a newer one may appear meanwhile; images of two would not belong together
        yield len(chunk), response


def translated(
    connection: Connection,
    model: str,
    rows: Iterable[InputRow],
    version: int | None,
    *,
    resize: bool,
    image_format: AnyFormat,
) -> Iterator[tuple[int, generator_pb2.TranslateResponse]]:
    """Translates all rows, in order, each request when its answer is asked for; yields (rows, answer).

    Raises:
        GanClientError: there is no such translator, or no answer.
    """
    translator = Translator(connection, model, version, resize=resize, image_format=image_format)
    first_row = 0
    for chunk in translator.chunks_of(rows, row_bytes):
        for count, response in translator.send(chunk, first_row):
            yield count, response
            first_row += count


def arrays_of(answers: Iterable[tuple[int, Response]], image_format: PixelFormat) -> Iterator[Chunk]:
    """The images of (rows, answer) as arrays of one shape.

    Raises:
        ServerFault: an answer holds anything else.
    """
    shape: tuple[int, ...] = ()
    for count, response in answers:
        images = images_from(response, count, image_format)
        if shape and images.shape[1:] != shape:
            raise ServerFault(f"the server's answers disagree: images of shape {shape}, then {images.shape[1:]}")
        shape = images.shape[1:]
        yield Chunk(response.model, response.version, images)


def files_of(answers: Iterable[tuple[int, Response]], file_format: FileFormat) -> Iterator[EncodedChunk]:
    """The images of (rows, answer) as PNG or JPEG files.

    Raises:
        ServerFault: an answer holds anything else.
    """
    for count, response in answers:
        yield EncodedChunk(response.model, response.version, files_from(response, count, file_format))


class Translator:
    """One model of one server that turns images into images; outlasts a busy and a slow server.

    Args:
        connection: to the server.
        model: name of a served model.
        version: None: the newest that is served, and the same for all requests.
        resize: whether images of another size than the model's are fitted to it.
        image_format: of the answers.
        sleep: waits so many seconds.

    Raises:
        GanClientError: there is no such translator.
    """

    def __init__(
        self,
        connection: Connection,
        model: str,
        version: int | None,
        *,
        resize: bool,
        image_format: AnyFormat,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.served = connection.find(model, version, "translate")
        self.version = version
        self._connection = connection
        self._resize = bool(resize)
        self._format = image_format
        self._sleep = sleep
        self._pace = Pace(max_chunk_rows(self.served, image_format), connection.timeout_s)

    def chunks_of(self, items: Iterable[_Item], item_bytes: Callable[[_Item], int]) -> Iterator[list[_Item]]:
        """Cuts `items`, one a row, into what the next request should hold; asks for no more than one chunk of them."""
        return chunks_of(items, item_bytes, lambda: self._pace.rows, max_input_bytes(self.served))

    def send(
        self, rows: Sequence[InputRow], first_row: int = 0
    ) -> Iterator[tuple[int, generator_pb2.TranslateResponse]]:
        """Sends rows in one request, or in smaller ones if that misses its deadline; yields (rows, answer), in order.

        Args:
            rows: at least one.
            first_row: the place of the first row in all that the caller has; errors name rows so.

        Raises:
            InvalidRequest: the first row without an answer, or one sent with it, is refused.
            GanClientError: there is no answer.
        """
        unsent = [rows]  # the next one last
        while unsent:
            part = unsent.pop()
            try:
                response = self._send(part)
            except DeadlineExceeded:
                self._pace.missed(len(part))
                if len(part) == 1:
                    raise
                middle = len(part) // 2
                unsent += [part[middle:], part[:middle]]
                continue
            except InvalidRequest as error:
                self._pace.refused()
                raise InvalidRequest(_with_rows_named_from(first_row, str(error))) from error
            yield len(part), response
            first_row += len(part)

    def _send(self, rows: Sequence[InputRow]) -> generator_pb2.TranslateResponse:
        """Sends one request, again after a pause while the server is busy."""
        request = translate_request(self.served.name, self.version, rows, self._resize, self._format)
        for pause_s in (*BUSY_PAUSES_S, None):
            started_s = time.monotonic()
            try:
                response = self._connection.translate(request)
            except ServerBusy:
                if pause_s is None:
                    raise
                self._sleep(pause_s * random.uniform(0.75, 1.25))  # clients refused together come back apart
            else:
                break
        self._pace.answered(len(rows), time.monotonic() - started_s)
        self.version = response.version  # a newer one may appear meanwhile; images of two would not belong together
        return response


def _with_rows_named_from(first_row: int, text: str) -> str:
    """A server's text about one request, with the caller's names of its rows."""
    return _ROW_OF_REQUEST.sub(lambda match: f"images[{first_row + int(match[1])}]", text)


def _split(connection: Connection, model: str, rows: Rows, version: int | None, image_format: AnyFormat) -> list[Rows]:
    served = connection.find(model, version, "generate")
    max_rows = max_chunk_rows(served, image_format)
    if isinstance(rows, SeededRows):
        if len(rows) <= max_rows:
            return [rows]
        if served.latent_distribution != "normal":
            raise InvalidRequest(
                f"count: at most {max_rows} for {model!r}: this client cannot draw"
                f" {served.latent_distribution!r} latents, which more rows would take; update it, or give latents"
            )
    max_sent_rows = max(1, max_input_bytes(served) // (_LATENT_VALUE_BYTES * served.latent_dim))
    return split(rows, min(max_rows, max_sent_rows), served.latent_dim)
