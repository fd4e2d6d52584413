"""What two processes compute together, beside what one computes alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.trainer.conftest import tensors_of
from tests.trainer.distributed.cases import CASES, compute
from tests.trainer.distributed.conftest import LIMIT_S, Answers
from tests.trainer.distributed.exercises import HALF, RESUMED, TERMINAL, run_folder, train_in
from trainer.config import CycleConfig

pytestmark = pytest.mark.timeout(LIMIT_S + 200)

EXACT = [name for name, config in CASES.items() if config.precision == "fp32"]
REDUCED = [name for name in CASES if name not in EXACT]


def of_two(exercised: Path, name: str) -> dict[str, Tensor]:
    return load_file(exercised / f"{list(CASES).index(name)}.safetensors")


def test_both_hold_the_same_bits_after_every_training(answers: Answers) -> None:
    assert answers("_compute_cases") == [dict.fromkeys(CASES, True)] * 2


@pytest.mark.parametrize("name", EXACT)
def test_two_compute_what_one_computes(name: str, exercised: Path) -> None:
    alone, together = compute(CASES[name]), of_two(exercised, name)
    assert alone.keys() == together.keys()
    for key, value in alone.items():
        # Penalties are computed in single precision, whatever the networks are in.
        close = torch.allclose(together[key].double(), value.double(), rtol=1e-6, atol=1e-9)
        assert close, f"{key}: {(together[key] - value).abs().max()} of {value.abs().max()}"


@pytest.mark.parametrize("name", REDUCED)
def test_two_compute_in_bf16_nearly_what_one_computes(name: str, exercised: Path) -> None:
    alone, together = compute(CASES[name]), of_two(exercised, name)
    for key in ("d_loss", "d_real", "d_fake"):
        torch.testing.assert_close(
            together[f"measured.{key}"].float(), alone[f"measured.{key}"].float(), rtol=0.1, atol=0.02
        )
    for network in ("generator", "discriminator"):
        moments = [key for key in alone if re.fullmatch(rf"{network}_optimizer\.\d+\.exp_avg", key)]
        mine, theirs = (torch.cat([each[key].flatten() for key in moments]) for each in (alone, together))
        assert torch.cosine_similarity(mine, theirs, dim=0) > 0.98


def test_the_pool_of_the_case_with_pools_is_full_and_exchanges_images() -> None:
    config = CASES["translator"]
    assert isinstance(config, CycleConfig)
    assert len(compute(config)["pool_a.images"]) == config.pool_images < 3 * config.batch_size


@pytest.mark.parametrize("name", RESUMED)
def test_a_run_that_stops_and_goes_on_has_the_same_bits(name: str, exercised: Path) -> None:
    whole, halves = (tensors_of(run_folder(exercised, name, how)) for how in ("whole", "halves"))
    assert whole.keys() == halves.keys()
    assert [key for key, value in whole.items() if not torch.equal(halves[key], value)] == []


def test_one_process_that_is_asked_to_stop_stops_all(answers: Answers) -> None:
    assert answers("_train_and_resume") == [{name: [HALF, True] for name in RESUMED}] * 2


@pytest.mark.parametrize("name", RESUMED)
def test_a_run_goes_on_with_another_number_of_processes(name: str, exercised: Path) -> None:
    half = run_folder(exercised, name, "half")
    summary = train_in(half, RESUMED[name], resume=True)
    assert summary.step == RESUMED[name].steps
    whole = run_folder(exercised, name, "whole")
    for other in (half, run_folder(exercised, name, "begun alone")):
        assert torch.equal(tensors_of(other)["random.cpu"], tensors_of(whole)["random.cpu"])
        rows, expected = ([row for row in run.metrics.read() if row["kind"] == "step"] for run in (other, whole))
        assert [row["step"] for row in rows] == [row["step"] for row in expected]
        for row, wanted in zip(rows, expected, strict=True):
            # Single precision, and Adam makes whole steps of gradients that are zero but for rounding.
            assert {key: row[key] for key in row if key.endswith("loss")} == pytest.approx(
                {key: wanted[key] for key in wanted if key.endswith("loss")}, rel=0.02, abs=0.02
            )


@pytest.mark.parametrize("name", RESUMED)
def test_the_first_process_alone_writes_and_speaks(name: str, exercised: Path) -> None:
    run = run_folder(exercised, name, "whole")
    steps = [row["step"] for row in run.metrics.read() if row["kind"] == "step"]
    assert steps == list(range(1, 7))
    assert (run.path / TERMINAL).read_text().count("[step 6/6]") == 1
    assert len(list(run.tensorboard.iterdir())) == 1


def test_the_share_of_a_process_is_a_run_of_rows(answers: Answers) -> None:
    first, second = answers("_exchange")
    assert first["own"] + second["own"] == first["all"] == second["all"] == torch.arange(12.0).view(6, 2).tolist()


def test_what_is_gathered_can_be_differentiated_twice(answers: Answers) -> None:
    rows = torch.arange(12.0).view(6, 2)
    answer = answers("_exchange")
    # Each of two processes adds up x^3 over all rows, so that x has the gradient 2 * 3 x^2; and that again: 2 * 12 x.
    first, second = ([row for each in answer for row in each[f"{order} derivative"]] for order in ("first", "second"))
    assert first == (6 * rows**2).tolist()
    assert second == (24 * rows).tolist()


def test_what_is_told_reaches_both(answers: Answers) -> None:
    for answer in answers("_exchange"):
        assert answer["gradient"] == [1.5, 5.0]
        assert answer["no gradient"]
        assert answer["means"] == [0.5, 4.0]
        assert answer["any"] == [True, False, True]
        assert answer["texts"] == ["\N{SNOWMAN} 0", "\N{SNOWMAN} 1"]


def test_batches_that_cannot_be_shared_are_refused(answers: Answers) -> None:
    for answer in answers("_exchange"):
        assert answer["uneven"].startswith("UserError: --batch-size: 2 processes cannot share batches of 7 images")


def test_an_error_of_one_process_ends_both_and_is_told_by_the_first(answers: Answers) -> None:
    first, second = answers("_fail_together")
    told = {
        "told by the second": "UserError: --flag: no",
        "diverged on the first": "TrainingDivergedError: NaN",
        "disk": "UserError: /full: No space left on device",
        "both": "UserError: of process 0",
        "in turn": "nothing",
        "the first of a turn": "UserError: in turn, process 0",
    }
    assert first == told | {"a bug on the second": "PeerError: another process failed"}
    assert second == told | {"a bug on the second": "KeyError: 'bug'"}


def test_a_process_that_is_lost_is_noticed_at_once(exercised: Path) -> None:
    assert "PeerError: another process" in (exercised / "_lose_a_peer.0.json").read_text()
    assert not (exercised / "_lose_a_peer.1.json").exists()
