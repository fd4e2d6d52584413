"""docs/data.md: its examples run, and its tables match the code."""

from __future__ import annotations

import json
import re
import shlex
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import ganserve.picture_formats as pictures_found
from ganserve.picture_formats import picture_formats, picture_suffixes
from tests.picture_files import noise
from trainer.__main__ import main
from trainer.cache_folder import CACHE_VARIABLE
from trainer.config import override
from trainer.data import image_files, pixel_store
from trainer.data.datasets import load_images
from trainer.data.unpaired import PARTS
from trainer.metrics.scorer import FEWEST_IMAGES
from trainer.presets import MODELS, PRESETS, choose_preset
from trainer.progress import Progress
from trainer.settings import fields_of
from trainer.training.cyclegan import CycleTraining
from trainer.training.gan import GanTraining

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
COMMANDS = re.findall(r"^\$ python -m trainer (.*)$", PAGE, re.MULTILINE)
SIZES = re.findall(r"^\| (.*) \| .* \| ([0-9x, ]+) \|$", PAGE, re.MULTILINE)
TINY = ["--width", "0.05", "--batch-size", "4", "--eval-images", "16", "--device", "cpu"]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like that of a reader of the page."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for training in (GanTraining, CycleTraining):
        monkeypatch.setattr(training, "draw_figures", lambda *_: None)  # slow
    for name in ("pets/cats", "pets/dogs", "domains/trainA", "domains/trainB"):
        (tmp_path / name).mkdir(parents=True)
        for number in range(10):
            Image.fromarray(noise(40, 60, 3, seed=number)).save(tmp_path / name / f"{number}.jfif", "JPEG")
    for name in ("1.heic", "2.heic", "3.HEIC", "Thumbs.db"):
        (tmp_path / "pets" / name).write_bytes(b"something else")
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for path in sorted((tmp_path / "pets").rglob("*.*")):
            archive.write(path, path.relative_to(tmp_path / "pets"))
    return tmp_path


def train(command: str, steps: int = 1) -> tuple[str, Path]:
    """Runs a command with few steps and narrow networks; returns its output and run folder."""
    words = shlex.split(command)
    if "--steps" in words:
        words[words.index("--steps") + 1] = str(steps)
    else:
        words += ["--steps", str(steps), *TINY]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, f"{command}: {result.output}"
    return result.output, Path(result.output.splitlines()[-1])


@pytest.mark.usefixtures("workplace")
def test_the_examples_train_and_print_what_the_page_shows() -> None:
    first, second, third, shaped, cycle, resume = COMMANDS
    shown = re.search(r"```text\n(left out: .*?)```", PAGE, re.DOTALL)
    assert shown is not None
    output, run = train(first)
    assert shown[1] in output
    assert shown[1].replace("pets: 20", "pets.zip: 20") in train(second)[0]
    assert shown[1] in train(third)[0]
    assert "20 images, 20x32 (height x width) in colour" in train(shaped)[0]
    assert "outside" not in train(cycle)[0]
    assert json.loads((run / "data.json").read_text())["left_out"] == {".heic": 3, ".db": 1}
    Path("elsewhere").mkdir()
    Path("pets").rename("elsewhere/pets")
    assert train(resume, steps=2)[1] == run


@pytest.mark.parametrize(("names", "sizes"), SIZES)
def test_the_networks_make_the_sizes_of_the_examples(names: str, sizes: str) -> None:
    for (model, preset), recipe in PRESETS.items():
        if f"`{preset}`" in names or (preset == choose_preset(model, None, None).preset and f"`{model}`" in names):
            for size in sizes.split(", "):
                override(recipe.config, fields_of({"image_size": size, "dataset": "digits"})).check()


def test_the_table_of_sizes_names_every_model() -> None:
    assert all(any(f"`{model}`" in names for names, _ in SIZES) for model in MODELS)


def test_twelve_bits_are_doubted_until_the_script_has_scaled_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "xrays").mkdir()
    levels = np.linspace(0, 4095, 1024).astype(np.uint16).reshape(32, 32)
    Image.fromarray(levels).save(tmp_path / "xrays" / "1.png")
    (warning,) = re.findall(r"^warning: .*$", PAGE, re.MULTILINE)
    (script,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(script, {})
    said = {}
    for name in ("xrays", "xrays-16"):
        data = load_images(name, data_root=tmp_path, image_size=32, max_corrupt_images=0, progress=Progress())
        said[name] = (capsys.readouterr().out, data.pixel_range)
    assert warning in said["xrays"][0]
    assert "warning" not in said["xrays-16"][0]
    assert said["xrays-16"][1] == (0, 255)


def test_every_format_and_no_other_is_named() -> None:
    formats = PAGE.partition("## Formats")[2].partition("## Sizes")[0]
    table = re.findall(r"^\| ([A-Z0-9, ]+) \| (.*) \|$", formats, re.MULTILINE)
    others = re.search(r"read too: ([A-Z0-9, ]+)\.", formats)
    assert others is not None
    named = [name for row, _ in table for name in row.split(", ")] + others[1].split(", ")
    assert sorted(named) == list(picture_formats())
    assert {suffix for _, row in table for suffix in re.findall(r"`(\.\w+)`", row)} <= picture_suffixes()


def test_every_reason_for_leaving_a_file_out_is_in_the_table() -> None:
    table = " ".join(re.findall(r"^\| (`.*?) \|", PAGE.partition("## Formats")[0], re.MULTILINE))
    source = "".join(Path(file).read_text() for file in (image_files.__file__, pictures_found.__file__))
    reasons = {*re.findall(r'left_out\["([^"]+)"\]', source), *re.findall(r'"(hidden|without a suffix)"', source)}
    assert len(reasons) == 6
    assert all(f"`{reason}`" in table for reason in reasons)
    assert f"`outside {', '.join(PARTS)}`" in table


def test_numbers_of_the_page_are_those_of_the_code() -> None:
    gib = [100_000 * 3 * size**2 / (1 << 30) for size in (32, 64, 128)]
    assert "{:.1f} GiB at 32x32, {:.1f} GiB\nat 64x64 and {:.1f} GiB at 128x128".format(*gib) in PAGE
    assert pixel_store._MEMORY_SHARE == 0.75
    assert "three quarters of the free memory" in PAGE
    assert FEWEST_IMAGES == 6
    assert "Six pictures are the minimum" in PAGE
    assert f"${CACHE_VARIABLE}" in PAGE
