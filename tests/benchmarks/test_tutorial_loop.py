from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.train_throughput import config_of, write_pictures
from benchmarks.tutorial_loop import PictureFiles, TutorialLoop
from trainer.config import override


def test_the_tutorials_loop_trains_both_networks_on_picture_files(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = override(config_of("dcgan-fmnist32"), {"network.width": 0.125})
    pixels = torch.randint(0, 256, (8, 1, 32, 32), dtype=torch.uint8)
    write_pictures(pixels, tmp_path)
    data = PictureFiles(tmp_path, 32, 1)
    batch = torch.stack([data[index] for index in range(len(data))])
    torch.testing.assert_close((batch + 1) * 127.5, pixels.float(), atol=1e-3, rtol=0)
    loop = TutorialLoop(config, torch.device("cpu"))
    losses = [loop.iterate(batch) for _ in range(30)]
    assert losses[-1][0] < losses[0][0]  # the discriminator learns eight pictures within 30 steps
    assert losses[-1][2] > losses[-1][3]
