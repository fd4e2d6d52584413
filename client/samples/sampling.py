"""Fetches all images of a seed into a folder or archive, from the first row or from where an earlier run stopped."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from client.errors import InvalidRequest, UnknownModel
from client.samples.output import Found, SampleOutput, SampleRows
from client.samples.record import SampleFormat, SampleRecord
from client.sdk.chunking import max_chunk_rows
from client.sdk.model_info import ModelInfo

Find = Callable[[str, int | None], ModelInfo]
Fetch = Callable[[SampleRecord, int], Iterator[SampleRows]]


@dataclass(frozen=True)
class Wanted:
    """The user's request: rows of the first `count` of a seed.

    None: as in the interrupted output, otherwise the newest version and a random seed.
    """

    model: str
    version: int | None
    seed: int | None
    count: int
    rows: range
    format: SampleFormat


class Sampling:
    """One run of the command: call `prepare`, then `run`.

    Args:
        output: The folder or archive to write.
        wanted: The request.
        find: Returns the served model with a name and a version (None: the newest), or raises UnknownModel.
        fetch: Yields the images of a record in row order, without as many of the first as are done.
    """

    def __init__(self, output: SampleOutput, wanted: Wanted, find: Find, fetch: Fetch) -> None:
        self.rows_before = 0
        self.rows_done = 0
        self._output = output
        self._wanted = wanted
        self._find = find
        self._fetch = fetch
        self._is_begun = False
        self._is_complete = False
        self._chunk_rows = 1

    def prepare(self, *, overwrite: bool) -> SampleRecord:
        """Compares the output with the request, and asks the server for the model; writes no image.

        Returns:
            The record of the finished output; if `rows_done` is the number of its rows, the output is already complete.

        Raises:
            InvalidRequest: The output holds other samples, and `overwrite` is not given.
            GanClientError: The model is not served, or the output cannot be written.
        """
        found = self._found(overwrite=overwrite)
        if found is not None and found.complete:
            self.rows_before = self.rows_done = len(found.record.rows)
            self._is_complete = True
            return found.record
        record = self._record(None if found is None else found.record)
        if found is not None:
            self.rows_before = self.rows_done = self._output.resume(record, self._chunk_rows)
            self._is_begun = True
        return record

    def run(self, record: SampleRecord, advance: Callable[[int], object], stop: Callable[[], bool]) -> bool:
        """Fetches and writes the missing images.

        Args:
            record: The result of `prepare`.
            advance: Called with the number of images after each request.
            stop: Polled after each request; if it returns True, the run ends and keeps what it has written.

        Returns:
            Whether the output is complete.

        Raises:
            GanClientError: The server or the disk failed; `rows_done` images are kept, and the next run resumes.
        """
        if self._is_complete:
            return True
        if self.rows_done < len(record.rows):
            answers = self._fetch(record, self.rows_done)
            first = next(answers, None)
            if not self._is_begun:  # touch the disk only once there is an image
                self._output.start(record)
            for rows in itertools.chain([] if first is None else [first], answers):
                self._output.append(rows)
                self.rows_done += len(rows)
                advance(len(rows))
                if stop() and self.rows_done < len(record.rows):
                    return False
        self._output.finish()
        return True

    def _found(self, *, overwrite: bool) -> Found | None:
        """The output of an earlier run; None if there is none, or it will be replaced."""
        found = self._output.find(overwrite=overwrite)
        if found is None:
            return None
        differences = found.record.differences(**vars(self._wanted))
        if overwrite:
            return None if differences or found.complete else found
        if differences:
            raise InvalidRequest(
                f"{self._output.path}: holds other samples ({', '.join(differences)}); name another place, or give"
                " --overwrite"
            )
        return found

    def _record(self, before: SampleRecord | None) -> SampleRecord:
        wanted = self._wanted
        version = wanted.version if before is None else before.version
        try:
            served = self._find(wanted.model, version)
        except UnknownModel as error:
            if before is None:
                raise
            raise UnknownModel(
                f"{error}; {self._output.path} was started with version {version}: serve that, or name another place"
            ) from error
        self._chunk_rows = max_chunk_rows(served, wanted.format)
        sizes = (served.height, served.width, served.channels)
        if before is None:
            seed = secrets.randbits(32) if wanted.seed is None else wanted.seed
            rows = wanted.rows
            return SampleRecord(
                wanted.model, served.version, seed, wanted.count, rows.start, rows.stop, wanted.format, *sizes
            )
        if sizes != (before.height, before.width, before.channels):
            raise InvalidRequest(
                f"{self._output.path}: was started with images of another size than {wanted.model!r} has now; name"
                " another place, or give --overwrite"
            )
        return before
