"""Training of a GAN on latents, fixed or growing: data, schedule, samples, scores and figures."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from ganserve.latents import latents_from_seed
from ganserve.traversal import USUAL_VALUES, line_labels, sheet_latents, usual_dimensions
from trainer.augmentation import mirrored_at_random
from trainer.config import GanConfig
from trainer.data.datasets import ImageData, on_device, rows_on_device, sha256_of, stream_indices, to_unit_range
from trainer.data.pixel_store import chosen_rows
from trainer.errors import UserError
from trainer.metrics.classifier import FeatureNetwork, check_informative, classifier_of
from trainer.metrics.floor import disjoint_sets
from trainer.metrics.measure_names import CHEAP_MEASURES, INCEPTION_MEASURES, TRAINING_MEASURES
from trainer.metrics.scorer import (
    FEWEST_IMAGES,
    Comparison,
    Scores,
    measure_of,
    score,
    to_pixels,
    unmeasurable,
)
from trainer.models.growth import GrowthState, batch_size_at, blend, downscale, growth_at, pixels_shown
from trainer.models.progressive import ProgressiveNetwork
from trainer.parallel import own_rows
from trainer.precision import autocast
from trainer.progress import Progress
from trainer.runs import plots
from trainer.runs.collapse import sample_spread
from trainer.runs.run_folder import RunFolder
from trainer.training.base import Evaluation, Measurements, Row, Training
from trainer.training.gan_step import GanState, new_state, train_step

GRID_IMAGES = 64
_TRAVERSAL_PIXELS = 128  # largest side of an image in the traversal figure
_SAMPLE_CHUNK_PIXELS = 1 << 20  # per forward: activations are many times as large
_EVALUATION_PIXELS = 1 << 24  # scored per evaluation


class GanTraining(Training):
    """A generator, its discriminator and a data set of images.

    Args:
        config: the resolved settings.
        data: images at the final size.
        device: to train on.
    """

    def __init__(self, config: GanConfig, data: ImageData, device: torch.device) -> None:
        self._config = config
        self._data = data
        self.state: GanState = new_state(config, device)
        self._images = on_device(data.images, device)
        self.data_name = data.name
        self.data_images = self.images_per_epoch = data.images_per_epoch
        self.data_sha256 = sha256_of(data.images)
        self._classifier: FeatureNetwork | None = None
        self._grow(self._growth())

    @property
    def batch_size(self) -> int:
        """See `Training`."""
        config = self._config
        if config.growth is None:
            return config.batch_size
        return batch_size_at(config.growth, config.network.image_size, self.state.images_seen, config.batch_size)

    def work(self, images_seen: int) -> float:
        """See `Training`."""
        config = self._config
        if config.growth is None:
            return float(images_seen)
        return pixels_shown(config.growth, config.network.image_size, images_seen)

    @property
    def about_to_grow(self) -> bool:
        """See `Training`."""
        return self._growth().resolution > self.output_size

    def restored(self, output_size: int, fade: float) -> None:
        """See `Training`.

        Raises:
            UserError: the network has no such size or fade, so the checkpoint is not of this run.
        """
        try:
            self._grow(GrowthState(output_size, fade))
        except ValueError as error:
            raise UserError(f"the checkpoint does not fit this run's config.json ({error})") from error

    def train_step(self, progress: float) -> Measurements:
        """See `Training`."""
        self._grow(self._growth())
        state = self.state
        if state.trained_size not in (0, self.output_size):
            # The optimisers' moments belong to the old resolution.
            state.generator_optimizer.state.clear()
            state.discriminator_optimizer.state.clear()
        state.trained_size = self.output_size
        indices = own_rows(stream_indices(self._config.seed, state.images_seen, self.batch_size, self.images_per_epoch))
        pixels = rows_on_device(self._images, indices, state.device)
        reals = downscale(to_unit_range(pixels), self.output_size)
        if self._config.mirror:
            reals = mirrored_at_random(reals)
        if self._config.growth is not None and self._config.growth.blend_reals:
            reals = blend(reals, self.fade)
        with autocast(self._config.precision, state.device):
            result = train_step(state, self._config, reals)
        measured: dict[str, Tensor | None] = {
            "d_loss": result.discriminator_loss,
            "g_loss": result.generator_loss,
            "d_real": result.real_score,
            "d_fake": result.fake_score,
            "d_fake_after": result.fake_score_after,
            "d_accuracy": result.accuracy,
        }
        if self._config.growth is not None:
            measured |= {"resolution": torch.tensor(self.output_size), "alpha": torch.tensor(self.fade)}
        return measured

    def describe(self, row: Row) -> str:
        """See `Training`."""
        g_loss = row["g_loss"]
        text = (
            f"D {row['d_loss']:.3f} G {'-' if g_loss is None else f'{g_loss:.3f}'}"
            f" D(x) {row['d_real']:.3f} D(G(z)) {row['d_fake']:.3f}"
        )
        if "resolution" not in row:
            return text
        size, alpha = int(row["resolution"]), row["alpha"]
        return f"{size}x{size}{'' if alpha == 1 else f' {alpha:.0%}'} {text}"

    def sample(self) -> Image.Image:
        """See `Training`: a grid of the averaged generator's images."""
        return plots.grid_image(self._sample(self._fixed_latents()))

    def sample_spread(self) -> float | None:
        """See `Training`."""
        reals = self._first_reals(min(GRID_IMAGES, self.images_per_epoch))
        return sample_spread(self._sample(self._fixed_latents()), reals)

    def evaluate(self) -> Evaluation:
        """See `Training`: the averaged generator against real images."""
        config = self._config
        count = min(self._evaluation_images(), self.images_per_epoch)
        latents = torch.from_numpy(latents_from_seed(config.seed, count, config.network.latent_dim))
        fakes = self._sample(latents).cpu()
        finite = bool(fakes.isfinite().all())
        scores = self._score(fakes, self._first_reals(count)) if finite else Scores(unmeasurable(self._measures()), {})
        name = config.score_metric
        larger_is_better = config.METRICS[name].better == "larger"
        value = scores.metrics[name]
        return Evaluation(
            value if math.isfinite(value) else -math.inf if larger_is_better else math.inf,
            scores.metrics,
            scores.protocol,
            scores.text,
            larger_is_better,
        )

    def measure_floor(self) -> Scores | None:
        """See `Training`: two halves of the images if there are too few for two sets of an evaluation's size."""
        ones, others = disjoint_sets(self._config.seed, self._evaluation_images(), self.images_per_epoch)
        if len(ones) < FEWEST_IMAGES:
            return None
        return self._score(self._reals(others), self._reals(ones))

    def prepare_evaluations(self, progress: Progress) -> None:
        """See `Training`: the classifier of the data set."""
        check_informative(self.classifier(progress), self.data_images, progress)

    def classifier(self, progress: Progress | None = None) -> FeatureNetwork:
        """The classifier of the data set, whose features some metrics use; trained if it is not cached."""
        if self._classifier is None:
            root = Path(self._config.data_root)
            self._classifier = classifier_of(self._data, root, self.state.device, progress or Progress())
        return self._classifier

    def draw_figures(self, run: RunFolder) -> None:
        """See `Training`."""
        rows = [row for row in run.metrics.read() if row["kind"] == "step"]
        folder = run.figures
        plots.save_loss_curve(rows, folder / "loss_curve.png", self._config)
        plots.save_score_curve(rows, folder, self._config)
        reals = self._first_reals(min(GRID_IMAGES, self.images_per_epoch))
        plots.save_real_beside_fake(reals, self._sample(self._fixed_latents()), folder / "real_beside_fake.png")
        self._draw_traversal(folder / "traversal.png")
        samples = sorted(run.samples.glob("step-*.png"))
        plots.save_progress_gif(samples, folder / "progress.gif")
        if self._config.growth is not None:
            plots.save_growth(samples, folder / "growth.png")

    def _draw_traversal(self, path: Path) -> None:
        """Varies single dimensions of the first fixed latents."""
        latents = self._fixed_latents()[: plots.GRID_COLUMNS]
        dimensions = usual_dimensions(latents.shape[1])
        rows = torch.from_numpy(sheet_latents(latents.numpy(), dimensions, USUAL_VALUES))
        size = self._config.network.size_at(self.output_size)
        shrink = max(1.0, max(size) / _TRAVERSAL_PIXELS)
        shown = (round(size[0] / shrink), round(size[1] / shrink))
        lines = [adaptive_avg_pool2d(self._sample(line), shown).cpu() for line in torch.split(rows, len(latents))]
        plots.save_traversal(torch.cat(lines), line_labels(dimensions, USUAL_VALUES), path)

    def _growth(self) -> GrowthState:
        """The growth at the next step."""
        config = self._config
        if config.growth is None:
            return GrowthState(config.network.image_size, 1.0)
        return growth_at(config.growth, config.network.image_size, self.state.images_seen)

    def _grow(self, growth: GrowthState) -> None:
        self.output_size, self.fade = growth.resolution, growth.alpha
        for network in self.state.networks.values():
            if isinstance(network, ProgressiveNetwork):
                network.set_growth(growth.resolution, growth.alpha)

    @property
    def _pixels(self) -> int:
        """Of an image of the current size."""
        return math.prod(self._config.network.size_at(self.output_size))

    def _measures(self) -> tuple[str, ...]:
        """Measures of images of the current size; the classifier has learnt images of the final one."""
        config = self._config
        measures = TRAINING_MEASURES if self.output_size == config.network.image_size else CHEAP_MEASURES
        inception = INCEPTION_MEASURES if config.uses_inception else ()
        return tuple(dict.fromkeys((*measures, *inception, measure_of(config.score_metric))))

    def _evaluation_images(self) -> int:
        """The number of fakes to score at the current size, if there are as many reals."""
        return min(self._config.evaluation_images, max(16, _EVALUATION_PIXELS // self._pixels))

    def _score(self, images: Tensor, reals: Tensor) -> Scores:
        """Scores images against reals, both (N, C, H, W) in about [-1, 1]."""
        weights = self._config.inception_weights
        comparison = Comparison(
            to_pixels(images),
            to_pixels(reals),
            seed=self._config.seed,
            device=self.state.device,
            classifier=self.classifier,
            inception_weights=Path(weights) if weights else None,
        )
        return score(comparison, self._measures())

    def _first_reals(self, count: int) -> Tensor:
        """The first real images of the run at the current size, (count, C, H, W) in [-1, 1], on the CPU."""
        return self._reals(stream_indices(self._config.seed, 0, count, self.images_per_epoch))

    def _reals(self, indices: Tensor) -> Tensor:
        """Real images at the current size, (N, C, H, W) in [-1, 1], on the CPU."""
        chosen = chosen_rows(self._data.images, indices)
        chunks = torch.split(chosen, max(1, _EVALUATION_PIXELS // math.prod(self._config.network.size)))
        return torch.cat([downscale(to_unit_range(chunk), self.output_size) for chunk in chunks])

    def _sample(self, latents: Tensor) -> Tensor:
        """Latents (N, latent_dim) -> images of the averaged generator, (N, C, H, W) in about [-1, 1]."""
        device, generator = self.state.device, self.state.ema_generator
        with torch.inference_mode():
            chunks = torch.split(latents.to(device), max(1, _SAMPLE_CHUNK_PIXELS // self._pixels))
            return torch.cat([generator(chunk) for chunk in chunks])

    def _fixed_latents(self) -> Tensor:
        return torch.from_numpy(latents_from_seed(self._config.seed, GRID_IMAGES, self._config.network.latent_dim))
