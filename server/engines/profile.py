"""The file that `python -m server tune` writes and `--profile` reads: what suits each model on one machine.

Owns the format, and that the file is whole or not there. Does not know how anything is measured or chosen. The file
may come from anywhere, so it is decoded strictly.
"""

from __future__ import annotations

import functools
import logging
import os
import platform
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from server.config import Backend, Precision
from server.errors import StartupError

SCHEMA_VERSION: Final = 1
_MAX_BYTES: Final = 16 << 20
_CPU_INFO: Final = Path("/proc/cpuinfo")
_log = logging.getLogger(__name__)

Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 16)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=1 << 16)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Layout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """So many engines side by side, each of so many threads."""

    backend: Backend
    precision: Precision
    engines: Positive
    threads: Positive

    def __str__(self) -> str:
        engines = "engine" if self.engines == 1 else "engines"
        threads = "thread" if self.threads == 1 else "threads"
        precision = "" if self.precision == "fp32" else f" {self.precision}"
        return f"{self.engines}{precision} {engines} x {self.threads} {threads}"


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How fast a layout was while so many callers each computed batches of so many rows, one after the other."""

    layout: Layout
    callers: Positive
    rows: Positive  # a batch
    images_a_second: Annotated[float, msgspec.Meta(gt=0, le=1e12)]  # of all callers together

    @property
    def batch_s(self) -> float:
        """How long a batch took."""
        return self.callers * self.rows / self.images_a_second


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From when on a way of computing pays; see `server.instance groups.LaneLimits`."""

    inline_rows: Count
    min_share_rows: Positive
    wide_rows: Count
    large_rows: Positive | None  # of a share that one instance gets; None: reduced precision never pays
    max_batch_rows: Positive  # of a batch in fp32
    large_batch_rows: Positive | None = None  # of a batch in reduced precision


class TunedModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What suits one version of a model."""

    sha256: Sha256  # of its ONNX file
    device: str  # "cpu", "cuda:0"
    engines: Positive  # side by side; beside each there may be one of reduced precision, of as many threads
    threads: Positive
    precision: Precision  # that large batches are computed in fastest
    limits: Limits

    def __post_init__(self) -> None:
        reduced = (self.limits.large_rows is not None, self.limits.large_batch_rows is not None)
        if reduced != ((self.precision != "fp32"),) * 2:
            raise ValueError("large_rows and large_batch_rows go with a precision that is not fp32, and only with it")


class Machine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where it was measured."""

    processor: str
    cores: Positive  # that the process could use
    onnxruntime: str  # its version


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What suits each model on one machine, and the measurements that say so."""

    schema_version: Literal[1] = SCHEMA_VERSION
    machine: Machine
    models: dict[str, TunedModel]
    measured: dict[str, list[Measured]]  # by model

    def __post_init__(self) -> None:
        for name, tuned in self.models.items():
            if tuned.device == "cpu" and tuned.engines * tuned.threads > self.machine.cores:
                raise ValueError(
                    f"{name}: {tuned.engines} engines x {tuned.threads} threads are more than the machine's"
                    f" {self.machine.cores} cores"
                )


def write_profile(path: Path, profile: Profile) -> None:
    """Writes the file whole, or leaves what was there.

    Raises:
        StartupError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            with temporary.open("wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(profile), indent=2) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StartupError(f"--out: {path} cannot be written ({error.strerror}); name another file") from error


def read_profile(path: Path) -> Profile:
    """Reads a profile.

    Raises:
        StartupError: it cannot be read, or is none.
    """
    remedy = f"write one with python -m server tune --out {path}"
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise StartupError(f"--profile: {path} cannot be read ({error.strerror}); {remedy}") from error
    if len(text) > _MAX_BYTES:
        raise StartupError(f"--profile: {path} is larger than {_MAX_BYTES} bytes, so no profile; {remedy}")
    try:
        return msgspec.json.decode(text, type=Profile)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StartupError(f"--profile: {path} is not a profile ({error}); {remedy}") from error


@functools.cache
def processor_name() -> str:
    """What the processor of this machine calls itself."""
    names = []
    if _CPU_INFO.is_file():
        lines = (line.partition(":") for line in _CPU_INFO.read_text(errors="replace").splitlines())
        names = [value.strip() for key, _, value in lines if key.strip() == "model name"]
    return names[0] if names else platform.processor() or platform.machine()


@functools.cache  # read once, at start: an engine that is rebuilt later must come back as it was
def usable_profile(path: Path, cores: int, processor: str) -> Profile | None:
    """Reads a profile for this machine; None, and a warning in the log, if it is for another number of cores.

    Args:
        path: of the file.
        cores: that this process may use.
        processor: of this machine; a profile of another one is used, with a warning.

    Raises:
        StartupError: it cannot be read, or is none.
    """
    profile = read_profile(path)
    if profile.machine.cores != cores:
        _log.warning(
            "--profile: %s was measured on %d cores and this process may use %d, so engines are chosen automatically;"
            " run python -m server tune here",
            path,
            profile.machine.cores,
            cores,
        )
        return None
    if profile.machine.processor != processor:
        _log.warning(
            "--profile: %s was measured on %s and this is %s, so what it says may not suit; run python -m server tune"
            " here",
            path,
            profile.machine.processor,
            processor,
        )
    return profile
