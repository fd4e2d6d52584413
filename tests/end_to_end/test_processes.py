"""The four programs as processes, as a user starts them."""

from __future__ import annotations

import subprocess
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from client import GanClient
from tests.end_to_end.conftest import run_python, running_server
from tests.server.tiny_bundles import publish_tiny_bundle

pytestmark = pytest.mark.slow  # README's commands go the same way


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a dcgan that was trained for a few steps."""
    folder = tmp_path_factory.mktemp("path")
    small = ["--steps", "20", "--lr", "0.002", "--batch-size", "16", "--width", "0.25"]
    trained = run_python("-m", "trainer", "--model", "dcgan", *small, "--out", str(folder / "runs"))
    assert trained.returncode == 0, trained.stderr
    exported = run_python("-m", "exporter", trained.stdout.splitlines()[-1], "--models", str(folder / "models"))
    assert exported.returncode == 0, exported.stderr
    assert exported.stdout.splitlines()[-1] == str(folder / "models" / "dcgan" / "1")
    return folder / "models"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", ["onnx", "torchscript"])
def test_from_images_to_a_png_grid(models: Path, tmp_path: Path, backend: str) -> None:
    with running_server(models, "--backend", backend) as server:

        def ganclient(*arguments: str) -> subprocess.CompletedProcess[str]:
            return run_python("-m", "client", *arguments, "--address", server.address)

        grids = []
        for name in ("one.png", "two.png"):
            fetched = ganclient("grid", "--model", "dcgan", "--n", "64", "--seed", "3", "--out", str(tmp_path / name))
            assert fetched.returncode == 0, fetched.stderr
            with Image.open(tmp_path / name) as image:
                assert image.size == (8 * 34 + 2, 8 * 34 + 2)
                grids.append(np.asarray(image))
        np.testing.assert_array_equal(grids[0], grids[1])  # the same seed gives the same pixels
        assert len(np.unique(grids[0])) > 10
        listed = ganclient("models").stdout
        assert "dcgan" in listed
        assert backend in listed
        unknown = ganclient("grid", "--model", "cat", "--n", "1", "--out", str(tmp_path / "cat.png"))
        assert unknown.returncode == 2
        assert "dcgan" in unknown.stderr
        assert not (tmp_path / "cat.png").exists()
    gone = ganclient("models")
    assert gone.returncode == 1
    assert gone.stderr.count("\n") == 1


@pytest.mark.timeout(600)
def test_from_two_heaps_of_images_to_translated_files(tmp_path: Path) -> None:
    small = ["--steps", "4", "--width", "0.1", "--batch-size", "4", "--domains", "ink", "chalk"]
    trained = run_python("-m", "trainer", "--model", "cyclegan", *small, "--out", str(tmp_path / "runs"))
    assert trained.returncode == 0, trained.stderr
    run, models = trained.stdout.splitlines()[-1], tmp_path / "models"
    exported = run_python("-m", "exporter", run, "--models", str(models))
    assert exported.returncode == 0, exported.stderr
    names = ["cyclegan-ink2chalk", "cyclegan-chalk2ink"]
    assert exported.stdout.splitlines()[-2:] == [str(models / name / "1") for name in names]
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for index, side in enumerate((32, 32, 50)):
        Image.effect_noise((side, side), 60).convert("RGB").save(pictures / f"{index}.png")
    with running_server(models) as server:

        def translate(*flags: str) -> subprocess.CompletedProcess[str]:
            arguments = ["--model", names[0], str(pictures), "--out", str(tmp_path / "out"), *flags]
            return run_python("-m", "client", "translate", *arguments, "--address", server.address)

        refused = translate()
        assert refused.returncode == 2
        assert "2.png" in refused.stderr
        assert "resize" in refused.stderr
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "1.png"]
        resized = translate("--resize", "--grid", str(tmp_path / "grid.png"))
        assert resized.returncode == 0, resized.stderr
    for name in ("0.png", "1.png", "2.png"):
        with Image.open(tmp_path / "out" / name) as image:
            assert image.size == (32, 32)
    assert (tmp_path / "grid.png").is_file()


@pytest.mark.timeout(600)
def test_a_pggan_that_was_stopped_early_is_served_at_the_size_it_had(tmp_path: Path) -> None:
    small = ["--images", "200", "--width", "0.05", "--batch-size", "16"]
    growth = ["--stabilise-images", "40", "--fade-images", "40"]  # 4x4 up to 40, 8x8 up to 120, 16x16 up to 200
    trained = run_python("-m", "trainer", "--model", "pggan", *small, *growth, "--out", str(tmp_path / "runs"))
    assert trained.returncode == 0, trained.stderr
    exported = run_python("-m", "exporter", trained.stdout.splitlines()[-1], "--models", str(tmp_path / "models"))
    assert exported.returncode == 0, exported.stderr
    with running_server(tmp_path / "models") as server, GanClient(server.address) as client:
        assert client.generate("pggan", seed=1, count=3).shape == (3, 16, 16, 1)


def test_a_run_that_was_never_trained_cannot_be_exported(tmp_path: Path) -> None:
    result = run_python("-m", "exporter", str(tmp_path), "--models", str(tmp_path / "models"))
    assert result.returncode == 2
    assert "not a run folder" in result.stderr
    assert not (tmp_path / "models").exists()


def test_an_empty_repository_cannot_be_served(tmp_path: Path) -> None:
    result = run_python("-m", "server", "--models", str(tmp_path / "models"))
    assert result.returncode == 2
    assert result.stderr.startswith("Error: ")
    assert str(tmp_path / "models") in result.stderr


def test_metrics_count_what_was_served(tmp_path: Path) -> None:
    publish_tiny_bundle(tmp_path, "tiny")
    with running_server(tmp_path) as server:
        with GanClient(server.address) as client:
            client.generate("tiny", seed=1, count=5)
        with urllib.request.urlopen(server.metrics_url, timeout=10) as response:
            text = response.read().decode()
    assert 'ganserve_rows_total{model="tiny",version="1"} 5.0' in text
