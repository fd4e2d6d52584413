"""Owner of the model repository contract: what lies in `models/`, who may write it, and how.

    models/<name>/config.pbtxt               so that the folder is a valid NVIDIA Triton model repository too
    models/<name>/<version>/model.onnx       latents (or input_pixels) -> images, pixels
    models/<name>/<version>/model.pt         the same graph as TorchScript
    models/<name>/<version>/model.bf16.pt    the same in bfloat16, if it was asked for and is close enough
    models/<name>/<version>/model.fp16.onnx  the same in float16, likewise
    models/<name>/<version>/card.json        what the model is, and the proof that the files above compute it

A version appears by one rename, complete or not at all, and is never changed afterwards. Everything read from here is
untrusted: cards are decoded strictly, and files are checked against the card's hashes. No torch, no onnxruntime.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from ganserve.card import (
    INPUT_LATENTS,
    INPUT_PIXELS,
    MAX_BATCH_ROWS,
    OUTPUT_IMAGES,
    OUTPUT_PIXELS,
    Card,
    Fidelity,
    ImageInput,
    LatentInput,
    Parity,
    RowInput,
    example_rows,
    fitting_batch_rows,
    proven_batch_rows,
)
from ganserve.files import flush_to_disk, replace_file
from ganserve.triton import triton_config

__all__ = [
    "CARD_FILE",
    "INPUT_LATENTS",
    "INPUT_PIXELS",
    "MAX_BATCH_ROWS",
    "ONNX_FILE",
    "OUTPUT_IMAGES",
    "OUTPUT_PIXELS",
    "TORCHSCRIPT_FILE",
    "TRITON_CONFIG_FILE",
    "VARIANT_FILES",
    "BundleError",
    "Card",
    "Fidelity",
    "ImageInput",
    "LatentInput",
    "Parity",
    "RowInput",
    "check_name",
    "check_publishable",
    "example_rows",
    "fitting_batch_rows",
    "list_models",
    "list_versions",
    "proven_batch_rows",
    "publish",
    "read_card",
    "sha256_of",
    "staging_folder",
    "triton_config",
    "verify_file",
    "version_folder",
]

ONNX_FILE = "model.onnx"
TORCHSCRIPT_FILE = "model.pt"
VARIANT_FILES: Final[Mapping[str, str]] = {"bf16": "model.bf16.pt", "fp16": "model.fp16.onnx"}  # by their precision
CARD_FILE = "card.json"
TRITON_CONFIG_FILE = "config.pbtxt"

_MAX_CARD_BYTES = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_STAGING = ".staging"
_STAGING_MAX_AGE_S = 86_400


class BundleError(Exception):
    """A model repository, or something asked of it, is not what it must be; the message says what to do."""


def check_name(name: str) -> str:
    """Returns `name` if it can name a model: it becomes a folder and a metric label.

    Raises:
        BundleError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise BundleError(
            f"model name {name!r}: use 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit"
        )
    return name


def list_models(repository: Path) -> list[str]:
    """Names of the models that have at least one version, sorted."""
    if not repository.is_dir():
        raise BundleError(f"no model repository at {repository}: export a run into it, or name another folder")
    names = (entry.name for entry in repository.iterdir() if entry.is_dir() and _NAME.fullmatch(entry.name))
    return sorted(name for name in names if list_versions(repository, name))


def list_versions(repository: Path, name: str) -> list[int]:
    """Versions of a model, oldest first; empty if there is no such model."""
    folder = repository / check_name(name)
    if not folder.is_dir():
        return []
    return sorted(
        int(entry.name)
        for entry in folder.iterdir()
        if entry.is_dir()
        and entry.name.isascii()
        and entry.name.isdecimal()
        and entry.name == str(int(entry.name)) != "0"
    )


def version_folder(repository: Path, name: str, version: int) -> Path:
    """Where one version of a model lies."""
    return repository / check_name(name) / str(version)


def read_card(folder: Path) -> Card:
    """Reads the card of one version's folder.

    Raises:
        BundleError: there is no card, it is not a valid one, or it is another version's.
    """
    path = folder / CARD_FILE
    try:
        if path.stat().st_size > _MAX_CARD_BYTES:
            raise BundleError(f"{path}: larger than {_MAX_CARD_BYTES} bytes, so not a card")
        card = msgspec.json.decode(path.read_bytes(), type=Card)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); export the model again") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: not a valid card ({error}); export the model again") from error
    if (card.name, str(card.version)) != (folder.parent.name, folder.name):
        raise BundleError(f"{path}: is the card of {card.name}/{card.version}; export under the name you want instead")
    return card


def verify_file(folder: Path, card: Card, file_name: str) -> Path:
    """Returns the path of one of the bundle's files, after checking it against the card's hash.

    Raises:
        BundleError: the card lists no such file, or the file is missing or has changed since the export.
    """
    expected = card.files.get(file_name)
    path = folder / file_name
    if expected is None:
        raise BundleError(f"{folder / CARD_FILE}: lists no {file_name}; export the model again")
    try:
        actual = sha256_of(path)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); export the model again") from error
    if actual != expected:
        raise BundleError(
            f"{path}: its sha256 is not the card's, so it was changed or cut short; export the model again"
        )
    return path


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def staging_folder(repository: Path) -> Iterator[Path]:
    """Yields an empty folder inside the repository to build a version in; removes it afterwards if it is left."""
    try:
        (repository / _STAGING).mkdir(parents=True, exist_ok=True)
        for leftover in (repository / _STAGING).iterdir():  # of an export that was killed
            if time.time() - leftover.stat().st_mtime > _STAGING_MAX_AGE_S:
                shutil.rmtree(leftover, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(dir=repository / _STAGING))
    except OSError as error:
        raise BundleError(f"cannot write to the model repository {repository} ({error.strerror})") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # another export may be staging beside us
            (repository / _STAGING).rmdir()


def check_publishable(repository: Path, staged: Path, card: Card) -> None:
    """Raises unless the files in `staged` can become a version of the repository; changes nothing.

    Raises:
        BundleError: the version exists, the card could not be read back, the files are not those it lists, or the
            model's earlier versions have other shapes (Triton keeps one config for all versions of a model).
    """
    target = version_folder(repository, card.name, card.version)
    for file_name in card.files:
        verify_file(staged, card, file_name)
    _encode(card)
    config = repository / card.name / TRITON_CONFIG_FILE
    text = triton_config(card).encode()
    try:
        if list_versions(repository, card.name) and config.is_file() and config.read_bytes() != text:
            raise BundleError(
                f"{config}: earlier versions of {card.name!r} have another input or image shape;"
                " give this one another --name"
            )
        if target.exists():
            raise BundleError(f"{target} exists already; give another --version, or none for the next free one")
        if (repository / card.name).exists() and not (repository / card.name).is_dir():
            raise BundleError(f"{repository / card.name}: is no folder; move it away, or give another --name")
    except OSError as error:
        raise BundleError(f"{target}: cannot be written ({error.strerror})") from error


def publish(repository: Path, staged: Path, card: Card) -> Path:
    """Makes the files in `staged` (from `staging_folder`) a version of the repository; returns its folder.

    Writes card.json, then moves the folder into place by one rename.

    Raises:
        BundleError: see `check_publishable`; or the repository cannot be written to.
    """
    check_publishable(repository, staged, card)
    target = version_folder(repository, card.name, card.version)
    try:
        (staged / CARD_FILE).write_bytes(_encode(card))
        staged.chmod(0o755)  # mkdtemp's folders are private, and a server runs as another user
        target.parent.mkdir(exist_ok=True)
        replace_file(target.parent / TRITON_CONFIG_FILE, triton_config(card).encode())
        for path in staged.iterdir():
            flush_to_disk(path)
        staged.rename(target)
        flush_to_disk(target.parent)
    except OSError as error:
        raise BundleError(f"{target}: cannot be written ({error.strerror})") from error
    return target


def _encode(card: Card) -> bytes:
    """The text of card.json; structs are checked when decoded, not when made, so this decodes once."""
    text = msgspec.json.encode(card)
    try:
        msgspec.json.decode(text, type=Card)
    except msgspec.ValidationError as error:
        raise BundleError(f"the network's facts do not fit a card ({error}); mend the run's config") from error
    return msgspec.json.format(text, indent=2) + b"\n"
