"""Asks one generator for images, in requests of a fitting size, all to the same version. Knows no files on disk."""

from __future__ import annotations

from collections.abc import Iterator

from client.chunks import Chunk, EncodedChunk, max_chunk_rows
from client.connection import Connection
from client.errors import InvalidRequest, ServerFault
from client.latents import Rows, SeededRows, split
from client.wire import AnyFormat, FileFormat, PixelFormat, files_from, generate_request, images_from
from ganserve.v1 import generator_pb2


def generated_arrays(
    connection: Connection, model: str, rows: Rows, version: int | None, image_format: PixelFormat
) -> Iterator[Chunk]:
    """Generates all rows as arrays of one shape, in order; each request is sent when its answer is asked for."""
    shape: tuple[int, ...] = ()
    for count, response in _answers(connection, model, rows, version, image_format):
        images = images_from(response, count, image_format)
        if shape and images.shape[1:] != shape:
            raise ServerFault(f"the server's answers disagree: images of shape {shape}, then {images.shape[1:]}")
        shape = images.shape[1:]
        yield Chunk(response.model, response.version, images)


def generated_files(
    connection: Connection, model: str, rows: Rows, version: int | None, file_format: FileFormat
) -> Iterator[EncodedChunk]:
    """Generates all rows as image files, in order; each request is sent when its answer is asked for."""
    for count, response in _answers(connection, model, rows, version, file_format):
        yield EncodedChunk(response.model, response.version, files_from(response, count, file_format))


def _answers(
    connection: Connection, model: str, rows: Rows, version: int | None, image_format: AnyFormat
) -> Iterator[tuple[int, generator_pb2.GenerateResponse]]:
    for chunk in _split(connection, model, rows, version, image_format):
        response = connection.generate(generate_request(model, version, chunk, image_format))
        version = response.version  # a newer one may appear meanwhile; images of two would not belong together
        yield len(chunk), response


def _split(connection: Connection, model: str, rows: Rows, version: int | None, image_format: AnyFormat) -> list[Rows]:
    served = connection.find(model, version, "generate")
    max_rows = max_chunk_rows(served, image_format)
    if len(rows) > max_rows and isinstance(rows, SeededRows) and served.latent_distribution != "normal":
        raise InvalidRequest(
            f"count: at most {max_rows} for {model!r}: this client cannot draw"
            f" {served.latent_distribution!r} latents, which more rows would take; update it, or give latents"
        )
    return split(rows, max_rows, served.latent_dim)
