"""Training of a CycleGAN: its two domains, its samples, its test error and its pictures."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor, nn

from ganserve.metrics import CYCLE_METRICS
from trainer.config import CycleConfig
from trainer.data.datasets import on_device, stream_indices, to_unit_range
from trainer.data.unpaired import UnpairedData, sha256_of_unpaired
from trainer.errors import UserError
from trainer.metrics.choosing import choosing_metric
from trainer.metrics.translation import mean_absolute_error, ms_ssim
from trainer.parallel import own_rows, rows_of_all
from trainer.precision import autocast
from trainer.runs import plots
from trainer.runs.collapse import sample_spread
from trainer.runs.run_folder import RunFolder
from trainer.training.base import Evaluation, Measurements, Row, Training
from trainer.training.cyclegan_step import CycleState, cycle_step, linear_decay, new_cycle_state

SHOWN_IMAGES = 8
_CHUNK = 16


class CycleTraining(Training):
    """Two translators, their discriminators and unpaired images of two domains.

    Args:
        config: the resolved settings.
        data: images at the training size.
        device: that trains.
    """

    def __init__(self, config: CycleConfig, data: UnpairedData, device: torch.device) -> None:
        self._config = config
        self._data = data
        self._state = new_cycle_state(config, device)
        self._domains = (on_device(data.train_a, device), on_device(data.train_b, device))
        self.data_name = data.name
        self.data_images = len(data.train_a) + len(data.train_b)
        self.images_per_epoch = max(len(data.train_a), len(data.train_b))
        self.data_sha256 = sha256_of_unpaired(data)
        self._score_metric = choosing_metric(config.best_by, latents=False)
        self.score_name = CYCLE_METRICS[self._score_metric].label
        self.score_explanation = str(CYCLE_METRICS[self._score_metric])
        if config.best_by.startswith("paired") and not data.test_is_paired:
            raise UserError(
                f"--best-by {config.best_by}: {data.name} has no pairs to test on; choose cycle_l1 or identity_l1"
            )

    @property
    def state(self) -> CycleState:
        """See `Training`."""
        return self._state

    @property
    def batch_size(self) -> int:
        """See `Training`: images of each domain."""
        return self._config.batch_size

    @property
    def output_size(self) -> int:
        """See `Training`."""
        return self._config.network.image_size

    @property
    def keep_epochs(self) -> int | None:
        """See `Training`."""
        return self._config.keep_epochs

    @property
    def depends_on_length(self) -> bool:
        """See `Training`: the learning rate falls towards the end."""
        return True

    def train_step(self, progress: float) -> Measurements:
        """See `Training`."""
        real_a, real_b = self._batch()
        factor = linear_decay(progress, self._config.constant_lr_share)
        with autocast(self._config.precision, self._state.device):
            result = cycle_step(self._state, self._config, real_a, real_b, factor)
        return {
            "d_loss": result.discriminator_loss,
            "g_loss": result.generator_loss,
            "adversarial_loss": result.adversarial_loss,
            "cycle_loss": result.cycle_loss,
            "identity_loss": result.identity_loss,
            "d_real": result.real_score,
            "d_fake": result.fake_score,
        }

    def describe(self, row: Row) -> str:
        """See `Training`."""
        return (
            f"D loss {row['d_loss']:.4f}  G loss {row['g_loss']:.4f}  cycle {row['cycle_loss']:.4f}"
            f"  identity {row['identity_loss']:.4f}  D(real) {row['d_real']:.3f}  D(fake) {row['d_fake']:.3f}"
        )

    def sample(self) -> Image.Image:
        """See `Training`: four rows of test images, real A, fake B, real B, fake A."""
        real_a, real_b = (to_unit_range(images) for images in self._data.samples(SHOWN_IMAGES))
        fake_b, fake_a = (
            self._translate(self._state.generator_ab, real_a),
            self._translate(self._state.generator_ba, real_b),
        )
        return plots.four_row_image(real_a, fake_b, real_b, fake_a)

    def sample_spread(self) -> float | None:
        """See `Training`: of the direction that is worse; a translator that ignores its input has none."""
        real_a, real_b = (to_unit_range(images) for images in self._data.samples(SHOWN_IMAGES))
        state = self._state
        shares = (
            sample_spread(self._translate(state.generator_ab, real_a), real_b),
            sample_spread(self._translate(state.generator_ba, real_b), real_a),
        )
        return min((share for share in shares if share is not None), default=None)

    def evaluate(self) -> Evaluation:
        """See `Training`: how far test images come back, stay as they are, and are from their partners.

        The error to the partners is beside that of leaving every image as it is, the baseline.
        """
        real_a, real_b, split = self._evaluation_images()
        ab, ba = self._state.generator_ab, self._state.generator_ba
        fake_b, fake_a = self._translate(ab, real_a), self._translate(ba, real_b)
        measured = {
            "cycle_l1": _mean(
                mean_absolute_error(self._translate(ba, fake_b), real_a),
                mean_absolute_error(self._translate(ab, fake_a), real_b),
            ),
            "identity_l1": _mean(
                mean_absolute_error(self._translate(ab, real_b), real_b),
                mean_absolute_error(self._translate(ba, real_a), real_a),
            ),
        }
        text = f"cycle L1 {measured['cycle_l1']:.4f}, identity L1 {measured['identity_l1']:.4f}"
        if self._data.test_is_paired:
            measured |= {
                "paired_l1_ab": mean_absolute_error(fake_b, real_b),
                "paired_l1_ba": mean_absolute_error(fake_a, real_a),
                "paired_l1_unchanged": mean_absolute_error(real_a, real_b),
                "paired_ms_ssim_ab": ms_ssim(fake_b, real_b),
                "paired_ms_ssim_ba": ms_ssim(fake_a, real_a),
                "paired_ms_ssim_unchanged": ms_ssim(real_a, real_b),
            }
            measured["paired_l1"] = error = _mean(measured["paired_l1_ab"], measured["paired_l1_ba"])
            similarity = _mean(measured["paired_ms_ssim_ab"], measured["paired_ms_ssim_ba"])
            measured["paired_ms_ssim"] = similarity
            text += (
                f"; to the partners L1 {error:.4f} (unchanged {measured['paired_l1_unchanged']:.4f}),"
                f" MS-SSIM {similarity:.4f} (unchanged {measured['paired_ms_ssim_unchanged']:.4f})"
            )
        protocol = {"images_a": len(real_a), "images_b": len(real_b), "split": split, "image_size": self.output_size}
        larger_is_better = CYCLE_METRICS[self._score_metric].better == "larger"
        return Evaluation(measured.get(self._score_metric), measured, protocol, text, larger_is_better)

    def draw_figures(self, run: RunFolder) -> None:
        """See `Training`."""
        rows = [row for row in run.metrics.read() if row["kind"] == "step"]
        plots.save_loss_curve(rows, run.figures / "loss_curve.png")
        plots.save_cycle_curve(rows, run.figures / "cycle_curve.png")
        plots.save_confidence_curve(rows, run.figures / "confidence_curve.png", probabilities=False)
        plots.save_image(self.sample(), run.figures / "translations.png")
        plots.save_progress_gif(sorted(run.samples.glob("step-*.png")), run.figures / "progress.gif")

    def _batch(self) -> tuple[Tensor, Tensor]:
        """This process's next images of both domains, (N, C, H, W) in [-1, 1]; each domain has an order of its own."""
        state, config = self._state, self._config
        batches = []
        for domain, images in enumerate(self._domains):
            seed = 2 * config.seed + domain
            indices = own_rows(stream_indices(seed, state.images_seen, self.batch_size, len(images)))
            batch = to_unit_range(images[indices.to(images.device)].to(state.device))
            if config.mirror:
                mirrored = own_rows(torch.rand(rows_of_all(len(batch)), 1, 1, 1)).to(state.device) < 0.5
                batch = torch.where(mirrored, batch.flip(-1), batch)
            batches.append(batch)
        return batches[0], batches[1]

    def _evaluation_images(self) -> tuple[Tensor, Tensor, str]:
        data, limit = self._data, self._config.evaluation_images
        split = "test" if len(data.test_a) and len(data.test_b) else "train"
        a, b = (data.test_a, data.test_b) if split == "test" else (data.train_a, data.train_b)
        return to_unit_range(a[:limit]), to_unit_range(b[:limit]), split

    def _translate(self, translator: nn.Module, images: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] through a translator; on the CPU."""
        with torch.inference_mode(), torch.compiler.set_stance("force_eager"):  # not again for batches of every size
            chunks = torch.split(images, _CHUNK)
            return torch.cat([translator(chunk.to(self._state.device)).cpu() for chunk in chunks])


def _mean(one: float, other: float) -> float:
    return (one + other) / 2
