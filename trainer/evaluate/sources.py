"""Sources of images to score: a run, a bundle, a file or a server, behind one interface.

`ganserve.latents` draws all latents, so a seed means the same images everywhere, and every source returns 8-bit pixels.
Files on disk are untrusted. A TorchScript file contains code, so score only files from people you trust, or use ONNX.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client import GanClient, GanClientError, ModelInfo
from ganserve.bundle import (
    CARD_FILE,
    INPUT_LATENTS,
    ONNX_FILE,
    OUTPUT_IMAGES,
    OUTPUT_PIXELS,
    TORCHSCRIPT_FILE,
    BundleError,
    LatentInput,
    list_versions,
    read_card,
    read_verified_file,
)
from ganserve.foreign import first_line
from ganserve.latents import NORMAL, latents_from_seed
from trainer.errors import UserError
from trainer.metrics.scorer import to_pixels
from trainer.progress import Progress
from trainer.runs.run_folder import load_generators

Runtime = Literal["onnx", "torchscript"]
RUNTIME_FILES: Final[dict[Runtime, str]] = {"onnx": ONNX_FILE, "torchscript": TORCHSCRIPT_FILE}
_CHUNK_PIXELS: Final = 1 << 20  # per forward pass
_MOST_ROWS: Final = 256
_TRANSLATES: Final = "translates images; score its run folder instead"

_Compute = Callable[[NDArray[np.float32]], Tensor]  # latents (n, latent_dim) -> pixels, uint8 (n, C, H, W)


@dataclass(frozen=True)
class Facts:
    """Facts about a source.

    Attributes:
        name: for the user and the protocol.
        kind: the runtime that computes the images.
        dataset: its training data; empty if unknown, or known only as a folder.
        size: height and width of the images, in pixels; None if unknown before the first image.
    """

    name: str
    kind: Literal["run", "onnx", "torchscript", "served"]
    dataset: str = ""
    size: tuple[int, int] | None = None


class Source(ABC):
    """Makes images from latents."""

    facts: Facts

    @abstractmethod
    def chunks(self, count: int, seed: int) -> Iterator[Tensor]:
        """Yields the images of the first `count` latents of a seed in chunks, uint8 (n, C, H, W).

        Raises:
            UserError: the source cannot make images.
        """

    def images(self, count: int, seed: int, progress: Progress) -> Tensor:
        """All images, uint8 (count, C, H, W)."""
        images = torch.empty(0, dtype=torch.uint8)
        done = 0
        with progress.bar() as bar:
            task = bar.add_task(f"images of {self.facts.kind}", total=count)
            for chunk in self.chunks(count, seed):
                if not done:
                    images = torch.empty(count, *chunk.shape[1:], dtype=torch.uint8)
                images[done : done + len(chunk)] = chunk
                done += len(chunk)
                bar.update(task, advance=len(chunk))
        return images


class LocalSource(Source):
    """A network or graph in this process."""

    def __init__(self, facts: Facts, latent_dim: int, compute: _Compute, distribution: str = NORMAL) -> None:
        self.facts = facts
        self._latent_dim = latent_dim
        self._distribution = distribution
        self._compute = compute

    def chunks(self, count: int, seed: int) -> Iterator[Tensor]:
        """See `Source`."""
        height, width = self.facts.size or (1, 1)
        rows = max(1, min(_MOST_ROWS, _CHUNK_PIXELS // (height * width)))
        latents = latents_from_seed(seed, count, self._latent_dim, self._distribution)
        for begin in range(0, count, rows):
            try:
                pixels = self._compute(latents[begin : begin + rows])
            except Exception as error:  # runtimes raise any exception on malformed files
                reason = first_line(error)
                raise UserError(f"{self.facts.name}: cannot make images from latents ({reason})") from error
            if pixels.ndim != 4 or pixels.dtype != torch.uint8:
                raise UserError(f"{self.facts.name}: returns shape {tuple(pixels.shape)}, which is no images")
            yield pixels


class ServedSource(Source):
    """A model of a running server."""

    def __init__(self, address: str, model: str, version: int | None) -> None:
        self._address, self._model = address, model
        info = self._find(version)
        if info.task != "generate":
            raise UserError(f"--model {model}: {_TRANSLATES}")
        self._version = info.version
        dataset = _known(info.dataset)
        self.facts = Facts(f"{model}/{info.version} at {address}", "served", dataset, (info.height, info.width))

    def chunks(self, count: int, seed: int) -> Iterator[Tensor]:
        """See `Source`."""
        try:
            with GanClient(self._address) as client:
                for chunk in client.generate_chunks(self._model, seed=seed, count=count, version=self._version):
                    yield torch.from_numpy(np.ascontiguousarray(chunk.images.transpose(0, 3, 1, 2)))
        except GanClientError as error:
            raise UserError(f"--address {self._address}: {error}") from error

    def _find(self, version: int | None) -> ModelInfo:
        try:
            with GanClient(self._address) as client:
                served = client.models()
        except GanClientError as error:
            raise UserError(f"--address {self._address}: {error}") from error
        fitting = [info for info in served if info.name == self._model and version in (None, info.version)]
        if not fitting:
            names = ", ".join(f"{info.name}/{info.version}" for info in served) or "no models"
            raise UserError(f"--model {self._model}: the server at {self._address} has {names}")
        return max(fitting, key=lambda info: info.version)


def open_run(run: Path, checkpoint: str, dataset: str, device: torch.device) -> Source:
    """The averaged generator of a run's checkpoint.

    Raises:
        UserError: the run has no such checkpoint.
    """
    (exported,) = load_generators(run, checkpoint)
    network = exported.network.to(device)

    def compute(latents: NDArray[np.float32]) -> Tensor:
        with torch.inference_mode():
            return to_pixels(network(torch.from_numpy(latents).to(device)).float()).cpu()

    facts = Facts(f"{run} ({checkpoint})", "run", dataset, (exported.image_size, exported.image_size))
    return LocalSource(facts, exported.latent_dim, compute)


def open_path(path: Path, runtime: Runtime | None, latent_dim: int | None) -> Source:
    """A bundle (the folder of a model or of a version), or a TorchScript or ONNX file.

    Args:
        path: of the bundle or file.
        runtime: of a bundle; None: ONNX Runtime.
        latent_dim: of a TorchScript file outside a bundle, which does not contain it.

    Raises:
        UserError: the path is of an unknown kind or damaged.
    """
    path = path.resolve()
    if latent_dim is not None and (path.is_dir() or path.suffix == ".onnx" or path.with_name(CARD_FILE).is_file()):
        raise UserError(f"--latent-dim: {path.name} states its latent size; leave --latent-dim out")
    try:
        if path.is_file():
            return _open_file(path, runtime, latent_dim)
        if not (path / CARD_FILE).is_file() and (versions := list_versions(path.parent, path.name)):
            path = path / str(versions[-1])
        if not (path / CARD_FILE).is_file():
            raise UserError(f"{path}: not a run folder, bundle or file; give the output of training or export")
        return _open_bundle(path, RUNTIME_FILES[runtime or "onnx"])
    except BundleError as error:
        raise UserError(str(error)) from error


def _open_file(path: Path, runtime: Runtime | None, latent_dim: int | None) -> Source:
    actual: Runtime = "onnx" if path.suffix == ".onnx" else "torchscript"
    if runtime not in (None, actual):
        raise UserError(f"--runtime {runtime}: {path.name} is a file for {actual}; leave --runtime out")
    if (path.parent / CARD_FILE).is_file():
        return _open_bundle(path.parent, path.name)
    if actual == "onnx":
        return _open_onnx(path, Facts(str(path), "onnx"), None)
    if latent_dim is None:
        raise UserError(f"--latent-dim: there is no card.json next to {path.name} to read it from; give --latent-dim N")
    return _open_torchscript(path, Facts(str(path), "torchscript"), latent_dim)


def _open_bundle(folder: Path, file_name: str) -> Source:
    card = read_card(folder)
    if not isinstance(card.input, LatentInput):
        raise UserError(f"{folder}: {_TRANSLATES}")
    path = folder / file_name
    read_verified_file(folder, card, file_name)  # refuses a changed file
    kind: Runtime = "onnx" if path.suffix == ".onnx" else "torchscript"
    facts = Facts(f"{folder} ({file_name})", kind, _known(card.dataset), (card.height, card.width))
    if kind == "onnx":
        return _open_onnx(path, facts, card.input.latent_dim, card.input.distribution)
    return _open_torchscript(path, facts, card.input.latent_dim, card.input.distribution)


def _open_onnx(path: Path, facts: Facts, latent_dim: int | None, distribution: str = NORMAL) -> Source:
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"{path}: onnxruntime is not installed; install ganserve[serve]") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = first_line(error)
        raise UserError(f"{path}: not a valid graph ({reason})") from error
    (node, *others), outputs = session.get_inputs(), {output.name for output in session.get_outputs()}
    size = node.shape[-1] if len(node.shape) == 2 else None
    if others or (node.name != INPUT_LATENTS and latent_dim is not None) or not isinstance(size, int):
        raise UserError(f"{path}: does not take latents (rows, latent_dim); export a generator with python -m exporter")
    name = next((name for name in (OUTPUT_PIXELS, OUTPUT_IMAGES) if name in outputs), session.get_outputs()[0].name)

    def compute(latents: NDArray[np.float32]) -> Tensor:
        (result,) = session.run([name], {node.name: latents})
        return _pixels(torch.from_numpy(np.array(result)))

    return LocalSource(facts, latent_dim or size, compute, distribution)


def _open_torchscript(path: Path, facts: Facts, latent_dim: int, distribution: str = NORMAL) -> Source:
    load: Any = torch.jit.load  # untyped
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"`torch\.jit")  # users cannot act on the deprecation
            module = load(str(path), map_location="cpu").eval()
    except (RuntimeError, ValueError, OSError) as error:
        reason = first_line(error)
        raise UserError(f"{path}: not TorchScript ({reason})") from error

    def compute(latents: NDArray[np.float32]) -> Tensor:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"`torch\.jit")
            result = module(torch.from_numpy(latents))
        return _pixels(result[1] if isinstance(result, tuple) else result)

    return LocalSource(facts, latent_dim, compute, distribution)


def _pixels(result: Tensor) -> Tensor:
    """Pixels, uint8 (n, H, W, C), or images about [-1, 1], (n, C, H, W) -> uint8 (n, C, H, W)."""
    return result.permute(0, 3, 1, 2).contiguous() if result.dtype == torch.uint8 else to_pixels(result.float())


def _known(dataset: str) -> str:
    return "" if dataset.partition(":")[0] in {"folder", "zip"} else dataset  # a bundle does not record the path
