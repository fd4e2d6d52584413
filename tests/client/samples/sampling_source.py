"""A stand-in for a server whose images encode their rows: nothing runs, and no request is sent."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from client.commands.sample import OUTPUTS as ARCHIVES
from client.errors import ServerUnreachable, UnknownModel
from client.samples.folder import FolderOutput
from client.samples.output import SampleOutput, SampleRows
from client.samples.record import SampleRecord
from client.samples.sampling import Sampling, Wanted
from client.sdk.model_info import ModelInfo, models_from
from ganserve.v1 import generator_pb2 as pb
from tests.client.fake_server import model as served_model

CHUNK_ROWS = 4
OUTPUTS = [pytest.param("out", id="folder"), *(pytest.param(f"out{suffix}", id=suffix[1:]) for suffix in ARCHIVES)]


def output_at(path: Path) -> SampleOutput:
    return ARCHIVES.get(path.suffix, FolderOutput)(path)


def wanted_at(path: Path, **fields: Any) -> Wanted:
    given: dict[str, Any] = {"model": "dcgan", "version": None, "seed": 7, "count": 10}
    given |= {"format": "pixels" if path.suffix == ".npz" else "png"} | fields
    return Wanted(**({"rows": range(given["count"])} | given))


def pixels(record: SampleRecord, row: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    shape = (record.height, record.width, record.channels)
    return np.random.default_rng([record.seed, row]).integers(0, 256, shape, dtype=np.uint8)


def file_of(record: SampleRecord, row: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels(record, row)).save(file, "PNG")
    return file.getvalue()


@dataclass
class Source:
    """A server of one model that fails before the row `fails_at`."""

    version: int = 3
    fails_at: int | None = None
    height: int = 3
    asked: list[int] = field(default_factory=list)

    def find(self, model: str, version: int | None) -> ModelInfo:
        if model != "dcgan" or version not in (None, self.version):
            raise UnknownModel(f"version {version} of {model!r} is not served; served versions: {self.version}")
        return models_from(
            pb.ListModelsResponse(
                models=[
                    served_model(
                        model, self.version, channels=3, height=self.height, width=2, max_request_rows=CHUNK_ROWS
                    )
                ]
            )
        )[0]

    def fetch(self, record: SampleRecord, done: int) -> Iterator[SampleRows]:
        self.asked.append(record.first_row + done)
        for start in range(record.first_row + done, record.end_row, CHUNK_ROWS):
            if self.fails_at is not None and start + CHUNK_ROWS > self.fails_at:
                raise ServerUnreachable("no server is ready")
            rows = range(start, min(start + CHUNK_ROWS, record.end_row))
            if record.format == "pixels":
                yield np.stack([pixels(record, row) for row in rows])
            else:
                yield [file_of(record, row) for row in rows]


def sample(
    path: Path, source: Source, *, overwrite: bool = False, stop_after: int | None = None, **fields: Any
) -> Sampling:
    with output_at(path) as output:
        sampling = Sampling(output, wanted_at(path, **fields), source.find, source.fetch)
        record = sampling.prepare(overwrite=overwrite)
        sampling.run(record, lambda _: None, lambda: stop_after is not None and sampling.rows_done >= stop_after)
        return sampling


def tree(path: Path) -> dict[str, bytes]:
    """Every file at or below a path, and the temporary files that an archive leaves next to it."""
    return {
        str(found.relative_to(path.parent)): found.read_bytes()
        for found in sorted(path.parent.rglob("*"))
        if found.is_file()
    }


def uninterrupted(tmp_path: Path, name: str) -> dict[str, bytes]:
    """The files of a run without an interruption."""
    path = tmp_path / "whole" / name
    path.parent.mkdir(exist_ok=True)
    sample(path, Source())
    return tree(path)
