"""Features of a small classifier that is trained on the data set itself.

Inception's features come from photographs and do not suit digits or drawings; a classifier of the data set's classes
learns what matters in its images. Without labels, it classifies quarter turns of the images (Gidaris et al. 2018,
"Unsupervised Representation Learning by Predicting Image Rotations").

A network is trained once per data set and size, deterministically, and cached with its accuracy on a held-out tenth of
the images. Cache files are untrusted and checked.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from ganserve.files import replace_file
from trainer.cache_folder import CACHE_VARIABLE, cache_folder
from trainer.data.datasets import STACKED_MNIST, ImageData, load_images, load_labels, sha256_of
from trainer.data.pixel_store import chosen_rows
from trainer.progress import Progress

Task = Literal["labels", "rotations"]

FEATURES: Final = 64
_SIZE_PIXELS: Final = 32  # largest input size
_WIDTHS: Final = (32, 64, FEATURES)
_BATCH: Final = 64
_MOST_SHOWN: Final = 60_000  # training images over all passes, about a minute on one core
_MOST_PASSES: Final = 20
_HELD_OUT: Final = 10  # hold out one image in this many
_PEAK_LR: Final = 3e-3
_SEED: Final = 20
_CHUNK: Final = 512
_TARGETS: Final[dict[Task, str]] = {"labels": "classes", "rotations": "quarter turns"}
_INFORMATIVE_ACCURACY: Final = 0.5  # chance is 25% for quarter turns
_INFORMATIVE_HELD_OUT: Final = 10  # the accuracy of fewer images says nothing
_KEY: Final = "ganserve-features"

Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class FeatureMetadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The metadata of a cached network."""

    schema_version: Literal[1] = 1
    task: Task
    classes: Annotated[int, msgspec.Meta(ge=2, le=10_000)]
    channels: Annotated[int, msgspec.Meta(ge=1, le=3)]
    image_size: Annotated[int, msgspec.Meta(ge=1, le=_SIZE_PIXELS)]
    accuracy: Annotated[float, msgspec.Meta(ge=0, le=1)]  # on held-out images
    data_sha256: Sha256
    weights_sha256: Sha256


@dataclass(frozen=True)
class FeatureNetwork:
    """A trained classifier."""

    network: Classifier
    metadata: FeatureMetadata

    def features(self, images: Tensor) -> Tensor:
        """The last hidden layer for uint8 images (N, C, H, W) of any size, (N, 64) on the CPU.

        A network of gray images looks at the channels of colour images one by one: (N, C x 64).
        """
        if images.shape[1] == self.metadata.channels:
            return self._run(images)[0]
        return torch.cat([self._run(channel)[0] for channel in torch.split(images, 1, dim=1)], dim=1)

    def probabilities(self, images: Tensor) -> Tensor:
        """Class probabilities of uint8 images (N, C, H, W), (N, classes) on the CPU."""
        return self._run(images)[1].softmax(1)

    def _run(self, images: Tensor) -> tuple[Tensor, Tensor]:
        device = next(self.network.parameters()).device
        outputs = []
        with torch.inference_mode():
            for chunk in torch.split(images, _CHUNK):
                features = self.network.features(_prepared(chunk.to(device), self.metadata.image_size))
                outputs.append((features.cpu(), self.network.decide(features).cpu()))
        features, logits = (torch.cat(parts) for parts in zip(*outputs, strict=True))
        return features, logits


class Classifier(nn.Module):
    """Three convolutions, then global average pooling; (N, C, H, W) -> features (N, 64) -> logits (N, classes)."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise((channels, *_WIDTHS)):
            layers += [nn.Conv2d(before, after, 5, 2, 2, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.decide = nn.Linear(FEATURES, classes)

    def features(self, images: Tensor) -> Tensor:
        """Features (N, 64) of images (N, C, H, W) in [-1, 1]."""
        features: Tensor = self.layers(images).mean((2, 3))
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes)."""
        logits: Tensor = self.decide(self.features(images))
        return logits


def classifier_of(data: ImageData, data_root: Path, device: torch.device, progress: Progress) -> FeatureNetwork:
    """The classifier of a data set's training images, from the cache or newly trained.

    For Stacked-MNIST it is that of MNIST at the same size, which looks at the channels one by one: a network of its
    1,000 classes would be right about half of the images.

    Raises:
        UserError: labels are missing and cannot be downloaded.
    """
    if data.name == STACKED_MNIST:
        size = data.images.shape[-1]
        data = load_images("mnist", data_root=data_root, image_size=size, max_corrupt_images=0, progress=progress)
    return feature_network(data.images, load_labels(data.name, data_root), device, progress)


def feature_network(images: Tensor, labels: Tensor | None, device: torch.device, progress: Progress) -> FeatureNetwork:
    """The classifier of a data set, from the cache or newly trained. Leaves torch's global random state unchanged.

    Args:
        images: uint8 (N, C, H, W), the training images; at least 2.
        labels: the class of each, (N,), 0 .. classes - 1; None: classify quarter turns.
        device: to compute on.
        progress: shows the training.
    """
    parts = (images,) if labels is None else (images, labels.long())
    data_sha256 = sha256_of(*parts)
    name = hashlib.sha256(f"{data_sha256} {_recipe()}".encode()).hexdigest()
    path = cache_folder() / "features" / f"{name}.safetensors"
    if path.is_file():
        try:
            return _on(_read(path, data_sha256), device)
        except (SafetensorError, msgspec.MsgspecError, OSError, ValueError, RuntimeError, RecursionError) as error:
            progress.say(f"{path}: damaged ({' '.join(str(error).split())[:200]}); training the classifier again")
    started = time.perf_counter()
    trained = _train(images, labels, data_sha256, device, progress)
    progress.say(
        f"the classifier took {time.perf_counter() - started:.0f} s, and is right about"
        f" {trained.metadata.accuracy:.1%} of {_held_out(len(images))} held-out images; kept in {path.parent}"
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        metadata = {_KEY: msgspec.json.encode(trained.metadata).decode()}
        replace_file(path, save(_weights(trained.network), metadata))
    except OSError as error:
        progress.say(f"{path}: not writable ({error.strerror}); set {CACHE_VARIABLE} to keep the classifier")
    return trained


def check_informative(features: FeatureNetwork, images: int, progress: Progress) -> None:
    """Tells the user if the features mean little: the classifier is often wrong, or has learnt from few images."""
    metadata = features.metadata
    if _held_out(images) < _INFORMATIVE_HELD_OUT:
        progress.say(
            f"note: the classifier has seen only {images} images, so the Frechet distance, precision and recall are"
            " rough here; look at samples/ as well"
        )
    elif metadata.accuracy < _INFORMATIVE_ACCURACY:
        progress.say(
            f"note: the classifier of {_TARGETS[metadata.task]} is right about only {metadata.accuracy:.0%} of held-out"
            " images, so the Frechet distance, precision and recall mean little here;"
            " --best-by sliced_wasserstein_distance chooses without them"
        )


def _train(
    images: Tensor, labels: Tensor | None, data_sha256: str, device: torch.device, progress: Progress
) -> FeatureNetwork:
    generator = torch.Generator().manual_seed(_SEED)
    order = torch.randperm(len(images), generator=generator)
    held_out, rest = torch.split(order, [_held_out(len(order)), len(order) - _held_out(len(order))])
    classes = 4 if labels is None else int(labels.max()) + 1
    size = min(_SIZE_PIXELS, images.shape[-1])
    network = _new(images.shape[1], max(2, classes)).to(device)
    shown = min(_MOST_SHOWN, _MOST_PASSES * len(rest))
    steps = -(-shown // _BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), _PEAK_LR)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _PEAK_LR, max(2, steps))
    stream = torch.cat([rest[torch.randperm(len(rest), generator=generator)] for _ in range(-(-shown // len(rest)))])
    stream = stream[:shown]
    turns = torch.randint(4, (len(stream),), generator=generator)
    task: Task = "rotations" if labels is None else "labels"
    progress.say(
        f"training a classifier for the scores, once for this data set: it tells {_TARGETS[task]} of"
        f" {len(rest):,} images apart"
    )
    batches = list(zip(torch.split(stream, _BATCH), torch.split(turns, _BATCH), strict=True))
    for chosen, batch_turns in progress.track(batches, "classifier"):
        if len(chosen) == 1 and len(batches) > 1:
            continue  # batch norm needs two images
        batch, wanted = _examples(images, labels, chosen, batch_turns, size, device)
        loss = F.cross_entropy(network(batch), wanted)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    network.eval()
    right = 0
    with torch.inference_mode():
        for chosen in torch.split(held_out, _CHUNK):
            batch, wanted = _examples(images, labels, chosen, chosen % 4, size, device)
            right += int((network(batch).argmax(1) == wanted).sum())
    metadata = FeatureMetadata(
        task=task,
        classes=network.decide.out_features,
        channels=images.shape[1],
        image_size=size,
        accuracy=right / len(held_out),
        data_sha256=data_sha256,
        weights_sha256=_sha256_of_weights(network),
    )
    return FeatureNetwork(network.requires_grad_(False), metadata)


def _recipe() -> str:
    return f"1 {_SIZE_PIXELS} {_WIDTHS} {_BATCH} {_MOST_SHOWN} {_MOST_PASSES} {_HELD_OUT} {_PEAK_LR} {_SEED}"


def _held_out(images: int) -> int:
    return max(1, images // _HELD_OUT)


def _new(channels: int, classes: int) -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        return Classifier(channels, classes)


def _examples(
    images: Tensor, labels: Tensor | None, chosen: Tensor, turns: Tensor, size: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    batch = _prepared(chosen_rows(images, chosen).to(device), size)
    if labels is not None:
        return batch, labels[chosen].long().to(device)
    turns = turns.to(device)
    turned = torch.stack([torch.rot90(image, int(turn), (1, 2)) for image, turn in zip(batch, turns, strict=True)])
    return turned, turns


def _prepared(images: Tensor, size: int) -> Tensor:
    """Pixels (N, C, H, W) -> [-1, 1] at the input size of the network."""
    prepared = images.float() / 127.5 - 1
    if prepared.shape[-2:] == (size, size):
        return prepared
    return F.interpolate(prepared, size=(size, size), mode="bilinear", antialias=True, align_corners=False)


def _read(path: Path, data_sha256: str) -> FeatureNetwork:
    with safe_open(path, framework="pt") as file:
        metadata = msgspec.json.decode((file.metadata() or {}).get(_KEY, ""), type=FeatureMetadata)
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    network = _new(metadata.channels, metadata.classes)
    network.load_state_dict(weights)
    if metadata.data_sha256 != data_sha256 or metadata.weights_sha256 != _sha256_of_weights(network):
        raise ValueError("the hashes do not match the content")
    return FeatureNetwork(network.requires_grad_(False).eval(), metadata)


def _on(features: FeatureNetwork, device: torch.device) -> FeatureNetwork:
    return FeatureNetwork(features.network.to(device), features.metadata)


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}


def _sha256_of_weights(network: nn.Module) -> str:
    return hashlib.sha256(save(_weights(network))).hexdigest()
