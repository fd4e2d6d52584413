from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from benchmarks.claims.__main__ import main
from benchmarks.claims.claims import CLAIMS, Claim
from ganserve.command_line import USER_ERROR


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--device", "cpu"])


def test_a_claim_is_trained_measured_judged_and_written(tiny_claim: Claim, tmp_path: Path) -> None:
    out = tmp_path / "found.html"
    result = run("--claims", "c99", "--train", "--seeds", "2", "--runs", str(tmp_path / "runs"), "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "quick scale" in result.output
    found = json.loads(out.with_suffix(".json").read_text())
    (claim,) = found["claims"]
    assert claim["id"] == "C99"
    assert claim["verdict"] in {"supported", "contradicted", "unclear"}
    assert claim["verdict"] in result.output
    assert [effect["seeds"] for effect in claim["effects"]] == [2, 2, 2]
    for effect in claim["effects"]:
        one, other = effect["groups"].values()
        assert effect["estimate"] == pytest.approx(sum(one) / 2 - sum(other) / 2)
        assert effect["low"] <= effect["estimate"] <= effect["high"]
    assert set(found["measured"]) == set(tiny_claim.subjects)
    page = out.read_text()
    assert "quick scale" in page
    assert tiny_claim.sentence in page
    assert page.count("data:image/svg+xml") >= 7  # one per effect, metrics over epochs, curves, the map, coordinates
    assert "http" not in page.replace("http-equiv", "")


def test_without_its_runs_a_claim_is_not_run_with_the_reason(tiny_claim: Claim, tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    result = run("--claims", tiny_claim.id, "--runs", str(tmp_path / "none"), "--out", str(out))
    assert result.exit_code == 0, result.output
    (claim,) = json.loads(out.read_text())["claims"]
    assert claim["verdict"] == "not run"
    assert "seed 0, 1, 2 is not trained" in claim["why"]
    assert "--train" in result.output


def test_full_scale_without_faces_skips_claims_about_faces(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    result = run("--claims", "C3", "--scale", "full", "--train", "--runs", str(tmp_path), "--out", str(out))
    assert result.exit_code == 0, result.output
    (claim,) = json.loads(out.read_text())["claims"]
    assert claim["verdict"] == "not run"
    assert "--anime" in claim["why"]


def test_the_claims_are_listed() -> None:
    result = run("--list")
    assert result.exit_code == 0
    assert all(claim.sentence in result.output for claim in CLAIMS.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--claims", "C0"), "--claims 'C0'"),
        (("--claims", "C1", "--anime", "zip:/not/there.zip"), "--anime"),
        (("--claims", "C1", "--out", "claims.txt"), "--out claims.txt"),
        (("--claims", "C1", "--out", "/not/there/claims.html"), "--out /not/there/claims.html"),
    ],
)
def test_a_mistake_is_a_one_line_error(arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == USER_ERROR
    assert result.output.startswith("Error: ")
    assert message in result.output
    assert result.output.count("\n") == 1


def test_an_interrupted_command_says_how_to_continue(
    tiny_claim: Claim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.claims.__main__.StopOnSignal.__call__", lambda _self: True)
    out = tmp_path / "found.html"
    result = run("--claims", tiny_claim.id, "--train", "--runs", str(tmp_path / "runs"), "--out", str(out))
    assert result.exit_code == 130
    assert "the same command continues" in result.output
    assert not out.exists()
