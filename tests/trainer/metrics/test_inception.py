from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trainer.errors import UserError
from trainer.metrics.inception import inception_distance, inception_features, kernel_distance, load_inception
from trainer.progress import Progress

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the format of the published ones, which are not available here."""
    from torch_fidelity import feature_extractor_inceptionv3 as published  # type: ignore[import-untyped]

    extractor: Any = published.FeatureExtractorInceptionV3
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        patch.setattr(published, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(extractor, "load_state_dict", lambda *_: None)
        state = extractor("inception-v3-compat", ["2048"]).state_dict()
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(state, path)
    return path


@pytest.mark.timeout(240)
def test_inception_returns_2048_features_and_the_hash_of_its_weights(weights: Path, quiet: Progress) -> None:
    random_state = torch.get_rng_state()
    network, sha256 = load_inception(weights, CPU)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    gray = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    found = inception_features(network, gray, CPU, quiet)
    assert found.shape == (2, 2048)
    torch.testing.assert_close(inception_features(network, gray.repeat(1, 3, 1, 1), CPU, quiet), found)
    assert not torch.equal(found[0], found[1])


class _Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("harm"),)


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04", pickle.dumps({"a": 1})])
def test_a_file_without_weights_is_a_one_line_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match="--inception-weights") as caught:
        load_inception(path, CPU)
    assert "\n" not in str(caught.value)


def test_code_in_a_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": _Harm()}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="not a file of plain weights"):
        load_inception(tmp_path / "weights.pth", CPU)
    assert not (tmp_path / "harm").exists()


def test_weights_of_another_network_and_missing_files_are_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="not torch-fidelity's Inception"):
        load_inception(tmp_path / "weights.pth", CPU)
    with pytest.raises(UserError, match="not readable"):
        load_inception(tmp_path / "none.pth", CPU)


def features(count: int, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(seed)) + shift


def test_kernel_distance_equals_the_unbiased_estimate() -> None:
    # Every subset holds both sets completely, so nothing is random: Gretton et al. 2012, the polynomial kernel.
    one, other = features(40, 0).double(), features(40, 1, 0.5).double()
    within = [((each @ each.T / 8 + 1) ** 3) for each in (one, other)]
    expected = sum((kernel.sum() - kernel.trace()) / (40 * 39) for kernel in within)
    expected = expected - 2 * ((one @ other.T / 8 + 1) ** 3).mean()
    assert kernel_distance(one.float(), other.float()) == pytest.approx(float(expected), rel=1e-3)


def test_both_distances_grow_with_a_shift_and_keep_the_global_random_state() -> None:
    state = torch.get_rng_state()
    for distance in (inception_distance, kernel_distance):
        near, far = (distance(features(60, 0), features(60, 1, shift)) for shift in (0.0, 1.0))
        assert far > 3 * abs(near)
    assert torch.equal(torch.get_rng_state(), state)
    assert kernel_distance(features(1500, 0), features(1500, 1), 1) != kernel_distance(
        features(1500, 0), features(1500, 1), 2
    )
