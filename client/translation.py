"""Sends images to one translator, in requests of a fitting size, all to the same version. Knows no files on disk."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence

from client.chunks import Chunk, EncodedChunk, Pace, chunks_of, max_chunk_rows
from client.connection import Connection
from client.errors import InvalidRequest, ServerFault
from client.input_images import MAX_REQUEST_IMAGE_BYTES, InputRow, row_bytes
from client.wire import AnyFormat, FileFormat, PixelFormat, files_from, images_from, translate_request
from ganserve.v1 import generator_pb2


class Translator:
    """One model of one server that turns images into images.

    Args:
        connection: to the server.
        model: name of a served model.
        version: None: the newest that is served, and the same for all requests.
        resize: whether images of another size than the model's are fitted to it.
        image_format: of the answers.

    Raises:
        GanClientError: there is no such translator.
    """

    def __init__(
        self, connection: Connection, model: str, version: int | None, *, resize: bool, image_format: AnyFormat
    ) -> None:
        self.served = connection.find(model, version, "translate")
        self.version = version
        self._connection = connection
        self._resize = bool(resize)
        self._format = image_format
        self._pace = Pace(max_chunk_rows(self.served, image_format), connection.timeout_s)

    @property
    def chunk_rows(self) -> int:
        """How many rows the next request should hold at most."""
        return self._pace.rows

    def send(self, rows: Sequence[InputRow]) -> generator_pb2.TranslateResponse:
        """Sends one request.

        Raises:
            InvalidRequest: at least one row is refused.
            GanClientError: there is no answer.
        """
        request = translate_request(self.served.name, self.version, rows, self._resize, self._format)
        started_s = time.monotonic()
        try:
            response = self._connection.translate(request)
        except InvalidRequest:
            self._pace.refused()
            raise
        self._pace.answered(len(rows), time.monotonic() - started_s)
        self.version = response.version  # a newer one may appear meanwhile; images of two would not belong together
        return response

    def send_all(self, rows: Iterable[InputRow]) -> Iterator[tuple[int, generator_pb2.TranslateResponse]]:
        """Sends all rows, in order, each request when its answer is asked for; yields (rows, answer)."""
        for chunk in chunks_of(rows, row_bytes, lambda: self.chunk_rows, MAX_REQUEST_IMAGE_BYTES):
            yield len(chunk), self.send(chunk)


def translated_arrays(translator: Translator, rows: Iterable[InputRow], image_format: PixelFormat) -> Iterator[Chunk]:
    """Translates all rows to arrays of one shape, in order."""
    shape: tuple[int, ...] = ()
    for count, response in translator.send_all(rows):
        images = images_from(response, count, image_format)
        if shape and images.shape[1:] != shape:
            raise ServerFault(f"the server's answers disagree: images of shape {shape}, then {images.shape[1:]}")
        shape = images.shape[1:]
        yield Chunk(response.model, response.version, images)


def translated_files(
    translator: Translator, rows: Iterable[InputRow], file_format: FileFormat
) -> Iterator[EncodedChunk]:
    """Translates all rows to image files, in order."""
    for count, response in translator.send_all(rows):
        yield EncodedChunk(response.model, response.version, files_from(response, count, file_format))
