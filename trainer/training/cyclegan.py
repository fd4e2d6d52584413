"""Training of a CycleGAN: its two domains, samples, test errors and figures."""

from __future__ import annotations

import math
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from trainer.augmentation import jittered_at_random, mirrored_at_random
from trainer.config import CycleConfig
from trainer.data.datasets import on_device, rows_on_device, stream_indices, to_unit_range
from trainer.data.unpaired import UnpairedData, sha256_of_unpaired
from trainer.errors import UserError
from trainer.metrics.scorer import sizes_recorded
from trainer.metrics.standard_errors import error_of_mean, recorded
from trainer.metrics.translation import absolute_errors, ms_ssims
from trainer.parallel import own_rows
from trainer.precision import autocast
from trainer.runs import plots
from trainer.runs.collapse import sample_spread
from trainer.runs.run_folder import RunFolder
from trainer.training.base import Evaluation, Measurements, Row, Training
from trainer.training.cyclegan_step import CycleState, cycle_step, linear_decay, new_cycle_state

SHOWN_IMAGES = 8
_CHUNK = 16  # images per forward when nothing is trained


class CycleTraining(Training):
    """Two translators, their discriminators and unpaired images of two domains.

    Args:
        config: the resolved settings.
        data: images at the training size.
        device: to train on.
    """

    def __init__(self, config: CycleConfig, data: UnpairedData, device: torch.device) -> None:
        self._config = config
        self._data = data
        self.state: CycleState = new_cycle_state(config, device)
        self._domains = (on_device(data.train_a, device), on_device(data.train_b, device))
        self.data_name = data.name
        self.data_images = len(data.train_a) + len(data.train_b)
        self.images_per_epoch = data.images_per_epoch
        self.data_sha256 = sha256_of_unpaired(data)
        self.output_size = config.network.image_size
        self.keep_epochs = config.keep_epochs
        self.depends_on_length = True  # the learning rate falls towards the end
        if config.best_by.startswith("paired") and not data.test_is_paired:
            raise UserError(
                f"--best-by {config.best_by}: {data.name} has no test pairs; choose cycle_l1 or identity_l1"
            )

    @property
    def batch_size(self) -> int:
        """See `Training`: of each domain."""
        return self._config.batch_size

    def train_step(self, progress: float) -> Measurements:
        """See `Training`."""
        real_a, real_b = self._batch()
        factor = linear_decay(progress, self._config.constant_lr_share)
        with autocast(self._config.precision, self.state.device):
            result = cycle_step(self.state, self._config, real_a, real_b, factor)
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
            f"D {row['d_loss']:.3f} G {row['g_loss']:.3f} cycle {row['cycle_loss']:.3f}"
            f" identity {row['identity_loss']:.3f}"
        )

    def sample(self) -> Image.Image:
        """See `Training`: four rows of test images, real A, fake B, real B, fake A."""
        real_a, real_b = (to_unit_range(images) for images in self._data.samples(SHOWN_IMAGES))
        fake_b, fake_a = (
            self._translate(self.state.generator_ab, real_a),
            self._translate(self.state.generator_ba, real_b),
        )
        return plots.four_row_image(real_a, fake_b, real_b, fake_a)

    def sample_spread(self) -> float | None:
        """See `Training`: of the worse direction; 0 for a translator that ignores its input."""
        real_a, real_b = (to_unit_range(images) for images in self._data.samples(SHOWN_IMAGES))
        state = self.state
        shares = (
            sample_spread(self._translate(state.generator_ab, real_a), real_b),
            sample_spread(self._translate(state.generator_ba, real_b), real_a),
        )
        return min((share for share in shares if share is not None), default=None)

    def evaluate(self) -> Evaluation:
        """See `Training`: cycle and identity errors on test images, and errors against paired images if there are any.

        The baseline of the paired errors is to leave every image unchanged.
        """
        real_a, real_b, split = self._evaluation_images()
        ab, ba = self.state.generator_ab, self.state.generator_ba
        fake_b, fake_a = self._translate(ab, real_a), self._translate(ba, real_b)
        both = {
            "cycle_l1": (
                absolute_errors(self._translate(ba, fake_b), real_a),
                absolute_errors(self._translate(ab, fake_a), real_b),
            ),
            "identity_l1": (
                absolute_errors(self._translate(ab, real_b), real_b),
                absolute_errors(self._translate(ba, real_a), real_a),
            ),
        }
        measured = {name: (float(one.mean()) + float(other.mean())) / 2 for name, (one, other) in both.items()}
        errors = {name: math.hypot(error_of_mean(one), error_of_mean(other)) / 2 for name, (one, other) in both.items()}
        text = f"cycle L1 {measured['cycle_l1']:.4f}, identity L1 {measured['identity_l1']:.4f}"
        if self._data.test_is_paired:
            of_pairs = {
                "paired_l1_ab": absolute_errors(fake_b, real_b),
                "paired_l1_ba": absolute_errors(fake_a, real_a),
                "paired_l1_unchanged": absolute_errors(real_a, real_b),
                "paired_ms_ssim_ab": ms_ssims(fake_b, real_b),
                "paired_ms_ssim_ba": ms_ssims(fake_a, real_a),
                "paired_ms_ssim_unchanged": ms_ssims(real_a, real_b),
            }
            for name in ("paired_l1", "paired_ms_ssim"):  # one value per pair: the directions share their images
                of_pairs[name] = (of_pairs[f"{name}_ab"] + of_pairs[f"{name}_ba"]) / 2
            measured |= {name: float(values.mean()) for name, values in of_pairs.items()}
            errors |= {name: error_of_mean(values) for name, values in of_pairs.items()}
            text += (
                f"; paired L1 {measured['paired_l1']:.4f} (unchanged {measured['paired_l1_unchanged']:.4f}),"
                f" MS-SSIM {measured['paired_ms_ssim']:.4f} (unchanged {measured['paired_ms_ssim_unchanged']:.4f})"
            )
        protocol: dict[str, Any] = {"images_a": len(real_a), "images_b": len(real_b), "split": split}
        protocol |= sizes_recorded(real_a)
        protocol |= recorded(list(errors), list(errors.values()))
        name = self._config.score_metric
        larger_is_better = self._config.METRICS[name].better == "larger"
        return Evaluation(measured.get(name), measured, protocol, text, larger_is_better)

    def draw_figures(self, run: RunFolder) -> None:
        """See `Training`."""
        rows = [row for row in run.metrics.read() if row["kind"] == "step"]
        plots.save_loss_curve(rows, run.figures / "loss_curve.png", self._config)
        plots.save_cycle_curve(rows, run.figures / "cycle_curve.png")
        plots.save_score_curve(rows, run.figures, self._config)
        plots.save_image(self.sample(), run.figures / "translations.png")
        plots.save_progress_gif(sorted(run.samples.glob("step-*.png")), run.figures / "progress.gif")

    def _batch(self) -> tuple[Tensor, Tensor]:
        """This process's rows of the next batches of A and B, (N, C, H, W) in [-1, 1]; each domain has its order."""
        state, config = self.state, self._config
        batches = []
        for domain, images in enumerate(self._domains):
            seed = 2 * config.seed + domain
            indices = own_rows(stream_indices(seed, state.images_seen, self.batch_size, len(images)))
            batch = to_unit_range(rows_on_device(images, indices, state.device))
            if config.jitter:
                batch = jittered_at_random(batch)
            if config.mirror:
                batch = mirrored_at_random(batch)
            batches.append(batch)
        return batches[0], batches[1]

    def _evaluation_images(self) -> tuple[Tensor, Tensor, str]:
        data, limit = self._data, self._config.evaluation_images
        split = "test" if len(data.test_a) and len(data.test_b) else "train"
        a, b = (data.test_a, data.test_b) if split == "test" else (data.train_a, data.train_b)
        return to_unit_range(a[:limit]), to_unit_range(b[:limit]), split

    def _translate(self, translator: nn.Module, images: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> their translations, the same shape and range, on the CPU."""
        # Eager, because a compiled network would be compiled again for every batch size.
        with torch.inference_mode(), torch.compiler.set_stance("force_eager"):
            chunks = torch.split(images, _CHUNK)
            return torch.cat([translator(chunk.to(self.state.device)).cpu() for chunk in chunks])
