from __future__ import annotations

import io

import pytest
import torch
from rich.console import Console

from tests.trainer.conftest import made_up_images, small_config, small_gan
from trainer import plan
from trainer.data.inspection import Inspection
from trainer.plan import Plan, _duration
from trainer.progress import Progress

CPU = torch.device("cpu")
FACES = Inspection("faces", 18, {".txt": 2}, {"": 18}, [(64, 64)])


@pytest.fixture(autouse=True)
def _timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps take ten minutes at the run's size, an hour at another."""
    monkeypatch.setattr(plan, "estimate_s", lambda *_, image_size=None: 600.0 if image_size is None else 3600.0)


def told(plan_of_run: Plan) -> list[str]:
    console = Console(file=io.StringIO(), width=200)
    plan_of_run.tell(Progress(console))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_own_pictures_are_described_with_steps_time_and_a_larger_size() -> None:
    config = small_gan(
        "dcgan", "dcgan-digits", steps=1500, mirror=True, augment=("colour",), dataset="folder:/home/me/faces"
    )
    data, settings, changes, time = told(Plan(config, made_up_images(config), FACES, CPU))
    assert data == "faces: 18 pictures of 64x64 in 20 files"
    assert settings == "dcgan on folder:faces: 18 images, 32x32 gray, batch 4, 1,500 steps"
    assert changes == "mirrored and augmented at random; without: --no-mirror --augment none"
    assert time.startswith("about 10 minutes on this machine, ")
    assert time.endswith(" GB of memory; --image-size 64 takes about 1 hour")


@pytest.mark.parametrize("model", ["dcgan", "cyclegan"])
def test_a_built_in_data_set_has_one_line_and_its_time(model: str) -> None:
    config = small_config(model, f"{model}-digits", steps=1500, mirror=False)
    settings, time = told(Plan(config, made_up_images(config), None, CPU))
    assert settings.startswith(f"{model} on digits: 18 ")
    assert "--image-size" not in time


def test_a_short_run_is_not_timed() -> None:
    config = small_gan("dcgan", "dcgan-digits", steps=50)
    assert len(told(Plan(config, made_up_images(config), None, CPU))) == 1


@pytest.mark.parametrize(("side", "suggested"), [(63, False), (64, True)])
def test_a_larger_size_is_suggested_only_if_the_pictures_have_it(side: int, suggested: bool) -> None:
    config = small_gan("dcgan", "dcgan-digits", steps=1500)
    inspection = Inspection("faces", 18, {}, {"": 18}, [(side, side)])
    assert ("--image-size 64" in told(Plan(config, made_up_images(config), inspection, CPU))[-1]) == suggested


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 seconds"),
        (40, "40 seconds"),
        (58, "1 minute"),
        (290, "5 minutes"),
        (5400, "1.5 hours"),
        (36_100, "10 hours"),
        (200_000, "2.3 days"),
    ],
)
def test_durations_are_rounded(seconds: float, text: str) -> None:
    assert _duration(seconds) == text
