"""The model repository: its layout on disk, and how versions are written and read.

    models/<name>/config.pbtxt               makes the folder a valid NVIDIA Triton model repository; operators
                                             may add lines below: version_policy, labels of versions
    models/<name>/<version>/model.onnx       latents (or input_pixels) -> images, pixels
    models/<name>/<version>/model.pt         the same graph as TorchScript
    models/<name>/<version>/model.bf16.pt    the same in bfloat16, if requested and close enough
    models/<name>/<version>/model.fp16.onnx  the same in float16, if requested and close enough
    models/<name>/<version>/card.json        describes the model, with the parity measured at export
    models/<name>/<version>/sample.png       images of a generator, for people: nothing reads it

The exporter writes it; the server and trainer.evaluate read it. A version appears by one rename, complete or not at
all, and never changes afterwards. Readers trust nothing here: only regular files are read, cards are decoded strictly,
and the bytes that are loaded are the bytes that were checked against the hashes in the card. A graph is one file: other
files in the folder are ignored.

Other stages import this module alone: it re-exports the card's names.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from ganserve.card import (
    INPUT_LATENTS,
    INPUT_PIXELS,
    MAX_BATCH_ROWS,
    MAX_STATEMENT,
    MAX_VERSION,
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
from ganserve.files import flush_to_disk, read_regular_file, replace_file
from ganserve.triton import triton_config

__all__ = [
    "CARD_FILE",
    "INPUT_LATENTS",
    "INPUT_PIXELS",
    "MAX_BATCH_ROWS",
    "MAX_CARD_BYTES",
    "MAX_GRAPH_BYTES",
    "MAX_STATEMENT",
    "MAX_VERSION",
    "ONNX_FILE",
    "OUTPUT_IMAGES",
    "OUTPUT_PIXELS",
    "SAMPLE_FILE",
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
    "move_into_place",
    "parse_card",
    "proven_batch_rows",
    "publish",
    "read_card",
    "read_verified_file",
    "repository_above",
    "sha256_of",
    "staging_folder",
    "triton_config",
    "version_folder",
]

ONNX_FILE = "model.onnx"
TORCHSCRIPT_FILE = "model.pt"
VARIANT_FILES: Final[Mapping[str, str]] = {"bf16": "model.bf16.pt", "fp16": "model.fp16.onnx"}  # by precision
CARD_FILE = "card.json"
SAMPLE_FILE = "sample.png"
TRITON_CONFIG_FILE = "config.pbtxt"

MAX_CARD_BYTES = 1 << 20
MAX_GRAPH_BYTES = (2 << 30) - 1  # protobuf cannot parse a larger model.onnx
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VERSION = re.compile(r"[1-9][0-9]*")
_STAGING = ".staging"
_STAGING_MAX_AGE_S = 86_400


class BundleError(Exception):
    """A model repository or a bundle is invalid or cannot be written; the message says what to do."""


def check_name(name: str) -> str:
    """Returns `name` if it is a valid model name: a folder and a metric label are named after it.

    Raises:
        BundleError: The name is invalid.
    """
    if not _NAME.fullmatch(name):
        raise BundleError(
            f"model name {name!r}: use 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit"
        )
    return name


def list_models(repository: Path) -> list[str]:
    """Names of the models that have at least one version, sorted; includes folders that cannot be read.

    Raises:
        BundleError: There is no such folder.
        OSError: The repository itself cannot be read.
    """
    if not repository.is_dir():
        if repository.exists():
            raise BundleError(f"{repository} is a file, not a model repository: give the folder that holds the models")
        raise BundleError(
            f"no model repository at {repository}: export a run into it (python -m exporter RUN --models {repository}),"
            " or give another folder"
        )
    names = sorted(entry.name for entry in repository.iterdir() if _NAME.fullmatch(entry.name))
    return [name for name in names if _may_have_versions(repository, name)]


def _may_have_versions(repository: Path, name: str) -> bool:
    try:
        return bool(list_versions(repository, name))
    except OSError:  # one folder must not hide the others; who loads it learns the reason
        return True


def list_versions(repository: Path, name: str) -> list[int]:
    """Versions of a model in ascending order; empty if there is no such model.

    Raises:
        BundleError: The name is invalid.
        OSError: The model's folder cannot be read.
    """
    folder = repository / check_name(name)
    if not folder.is_dir():
        return []
    return sorted(int(entry.name) for entry in folder.iterdir() if _VERSION.fullmatch(entry.name) and entry.is_dir())


def repository_above(folder: Path) -> Path | None:
    """The model repository that a folder of a model or of a version lies in; None if it is neither."""
    for model in (folder.resolve(), folder.resolve().parent):
        with contextlib.suppress(BundleError, OSError):
            versions = list_versions(model.parent, model.name)
            if any((model / str(version) / CARD_FILE).is_file() for version in versions):
                return model.parent
    return None


def version_folder(repository: Path, name: str, version: int) -> Path:
    """The folder of one version of a model."""
    return repository / check_name(name) / str(version)


def read_card(folder: Path) -> Card:
    """Reads the card in the folder of one version.

    Raises:
        BundleError: The card is missing or invalid, or belongs to another version.
    """
    path = folder / CARD_FILE
    try:
        content = read_regular_file(path, MAX_CARD_BYTES)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); export the model again") from error
    card = parse_card(content, path)
    if (card.name, str(card.version)) != (folder.parent.name, folder.name):
        raise BundleError(
            f"{path}: is the card of {card.name}/{card.version}; export the model under this folder's name"
        )
    return card


def parse_card(content: bytes, where: Path | str) -> Card:
    """Decodes the content of a card.json.

    Args:
        content: At most `MAX_CARD_BYTES`.
        where: It comes from, for the error.

    Raises:
        BundleError: The card is invalid.
    """
    try:
        return msgspec.json.decode(content, type=Card)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{where}: not a valid card ({error}); export the model again") from error


def read_verified_file(folder: Path, card: Card, file_name: str) -> bytes:
    """Reads a file of the bundle and checks its hash; load these bytes, because the file may change afterwards.

    Raises:
        BundleError: The card does not list the file, or the file is missing, is not a regular file below 2 GiB, or has
            changed since the export.
    """
    expected = card.files.get(file_name)
    path = folder / file_name
    if expected is None:
        raise BundleError(f"{folder / CARD_FILE}: lists no {file_name}; export the model again")
    try:
        content = read_regular_file(path, MAX_GRAPH_BYTES)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); export the model again") from error
    if hashlib.sha256(content).hexdigest() != expected:
        raise BundleError(
            f"{path}: its sha256 differs from the card's, so it was changed or truncated; export the model again"
        )
    return content


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def staging_folder(repository: Path) -> Iterator[Path]:
    """Yields an empty folder inside the repository to build a version in; removes it unless it was published.

    Raises:
        BundleError: The repository cannot be written to.
    """
    try:
        (repository / _STAGING).mkdir(parents=True, exist_ok=True)
        for leftover in (repository / _STAGING).iterdir():  # left by a killed export
            if time.time() - leftover.stat().st_mtime > _STAGING_MAX_AGE_S:
                shutil.rmtree(leftover, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(dir=repository / _STAGING))
    except OSError as error:
        raise BundleError(f"cannot write to the model repository {repository} ({error.strerror})") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # another export may be staging at the same time
            (repository / _STAGING).rmdir()


def publish(repository: Path, staged: Sequence[tuple[Path, Card]]) -> list[Path]:
    """Publishes folders from `staging_folder` as versions of the repository; returns the folder of each version.

    Checks all of them first, and publishes none unless all can be published. Then writes each card and moves each
    folder into place by one rename.

    Args:
        repository: The model repository.
        staged: Each folder, with the files that its card lists, and its card.

    Raises:
        BundleError: A version exists, a card cannot be read back, earlier versions of a model have other shapes
            (Triton keeps one config for all versions of a model), or the repository cannot be written to.
    """
    texts = [check_publishable(repository, card) for _, card in staged]
    published: list[Path] = []
    for (folder, card), text in zip(staged, texts, strict=True):
        target = version_folder(repository, card.name, card.version)
        try:
            (folder / CARD_FILE).write_bytes(text)
            target.parent.mkdir(exist_ok=True)
            config = target.parent / TRITON_CONFIG_FILE
            if not (config.is_file() and _is_config_of(config, card)):
                replace_file(config, triton_config(card).encode())
            move_into_place(folder, target)
        except OSError as error:
            done = f"; already published: {', '.join(map(str, published))}" if published else ""
            raise BundleError(f"{target}: cannot be written ({error.strerror}){done}") from error
        published.append(target)
    return published


def move_into_place(folder: Path, target: Path) -> None:
    """Makes a complete folder from `staging_folder` a version of the repository, by one rename.

    Args:
        folder: With all files, and the card.
        target: See `version_folder`; the folder of the model exists, and the version does not.

    Raises:
        OSError: It cannot be moved.
    """
    folder.chmod(0o755)  # mkdtemp makes private folders, and the server may run as another user
    for path in folder.iterdir():
        flush_to_disk(path)
    folder.rename(target)
    flush_to_disk(target.parent)


def _is_config_of(config: Path, card: Card) -> bool:
    """Whether a config.pbtxt is the one of this card; an operator may have added lines to it."""
    return read_regular_file(config, MAX_CARD_BYTES).startswith(triton_config(card).encode())


def check_publishable(repository: Path, card: Card) -> bytes:
    """Returns the text of card.json if the repository can take this version; changes nothing.

    The card may still lack its files: an exporter checks it before it writes them.

    Raises:
        BundleError: As `publish`.
    """
    text = msgspec.json.encode(card)
    try:
        msgspec.json.decode(text, type=Card)  # msgspec checks a struct when it decodes it, not when it makes it
    except msgspec.ValidationError as error:
        raise BundleError(f"the network's card would be invalid ({error}); fix the run's config") from error
    target = version_folder(repository, card.name, card.version)
    config = target.parent / TRITON_CONFIG_FILE
    try:
        earlier = list_versions(repository, card.name)
        if earlier and config.is_file() and not _is_config_of(config, card):
            raise BundleError(_why_not_its_config(config, target.with_name(str(earlier[-1])), card))
        if target.exists():
            raise BundleError(f"{target} already exists; give another --version, or omit it for the next free one")
        if target.parent.exists() and not target.parent.is_dir():
            raise BundleError(f"{target.parent}: is not a folder; move it away, or give another --name")
    except OSError as error:
        raise BundleError(f"{target}: cannot be written ({error.strerror})") from error
    return msgspec.json.format(text, indent=2) + b"\n"


def _why_not_its_config(config: Path, newest: Path, card: Card) -> str:
    """Why a model's config.pbtxt is not that of a new version, and what to do."""
    with contextlib.suppress(BundleError):
        before = _shapes(read_card(newest))
        if before != _shapes(card):
            return f"{newest}: {before}, and this network {_shapes(card)}; give it another --name"
    return (
        f"{config}: its first lines are not those that this export writes; write your own lines below them, or give"
        " this network another --name"
    )


def _shapes(card: Card) -> str:
    taken = (
        f"latents of size {card.input.latent_dim}"
        if isinstance(card.input, LatentInput)
        else f"images of {card.input.width}x{card.input.height}x{card.input.channels}"
    )
    return f"turns {taken} into images of {card.width}x{card.height}x{card.channels}"
