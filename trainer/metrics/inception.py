"""Frechet and kernel distances in the features of Inception v3, whose weights the user provides.

FID: Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium". KID:
Bińkowski et al. 2018, "Demystifying MMD GANs". The network is torch-fidelity's (the package `torch-fidelity`), the
distances are torchmetrics'. Images are resized as in the original TensorFlow code, the base of published metrics.
"""

from __future__ import annotations

import hashlib
import tempfile
import warnings
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from ganserve.foreign import first_line
from trainer.errors import UserError
from trainer.progress import Progress

FEATURES = 2048
RESIZER = "bilinear as TensorFlow 1"  # for protocols
KID_SUBSETS = 100
KID_SUBSET_IMAGES = 1000  # or all images, if fewer

_CHUNK = 32


@lru_cache(maxsize=1)  # the evaluations of a run share it
def load_inception(weights: Path, device: torch.device) -> tuple[nn.Module, str]:
    """The network, uint8 images (N, 3, H, W) -> features (N, 2048), and the SHA-256 of the weights file.

    Does not run code in the file.

    Raises:
        UserError: the file is not torch-fidelity's Inception v3, or that package is not installed.
    """
    try:
        content = weights.read_bytes()
    except OSError as error:
        raise UserError(f"--inception-weights {weights}: not readable ({error.strerror})") from error
    state = _read_state(weights)
    try:
        from torchmetrics.image.fid import NoTrainInceptionV3

        # torch-fidelity unpickles any file, so pass it our own file with the checked weights.
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            copy = Path(folder) / "weights.pth"
            torch.save(state, copy)
            warnings.simplefilter("ignore")
            with torch.random.fork_rng(devices=[]):  # the constructor draws random weights
                network = NoTrainInceptionV3("inception-v3-compat", [str(FEATURES)], str(copy), antialias=False)
    except ModuleNotFoundError as error:
        raise UserError("--inception-weights: needs the package torch-fidelity; install ganserve[inception]") from error
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"--inception-weights {weights}: not torch-fidelity's Inception v3 ({reason});"
            " give pt_inception-2015-12-05-6726825d.pth"
        ) from error
    return network.to(device).eval(), hashlib.sha256(content).hexdigest()


def inception_features(network: nn.Module, images: Tensor, device: torch.device, progress: Progress) -> Tensor:
    """The features of uint8 images (N, C, H, W), (N, 2048) on the CPU; gray images become three equal channels."""
    chunks = progress.track(torch.split(images, _CHUNK), "Inception")
    with torch.inference_mode():
        return torch.cat(
            [network(chunk.expand(-1, 3, -1, -1).contiguous().to(device)).float().cpu() for chunk in chunks]
        )


def inception_distance(reals: Tensor, fakes: Tensor) -> float:
    """FID of features (N, D) and (M, D); smaller is better."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=_GivenFeatures(reals.shape[1]), normalize=False)
    metric.update(reals, real=True)
    metric.update(fakes, real=False)
    return float(metric.compute())


def kernel_distance(reals: Tensor, fakes: Tensor, seed: int = 0) -> float:
    """KID of features (N, D) and (M, D), the mean over random subsets drawn with `seed`; smaller is better."""
    from torchmetrics.image.kid import KernelInceptionDistance

    subset = min(KID_SUBSET_IMAGES, len(reals), len(fakes))
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.filterwarnings("ignore", message="Metric `Kernel Inception Distance` will save all")
        torch.manual_seed(seed)
        metric = KernelInceptionDistance(
            feature=_GivenFeatures(reals.shape[1]), subsets=KID_SUBSETS, subset_size=subset, normalize=False
        )
        metric.update(reals, real=True)
        metric.update(fakes, real=False)
        mean, _ = metric.compute()
    return float(mean)


class _GivenFeatures(nn.Module):
    """Replaces the network in torchmetrics: both distances use precomputed features."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.num_features = features

    def forward(self, features: Tensor) -> Tensor:
        return features


def _read_state(weights: Path) -> dict[str, Tensor]:
    """Reads a state dict without running pickled code."""
    try:
        if weights.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(weights))
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:  # decoders raise any exception on hostile files
        reason = first_line(error)
        raise UserError(f"--inception-weights {weights}: not a file of plain weights ({reason})") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"--inception-weights {weights}: not a state dict, name -> tensor")
    return state
