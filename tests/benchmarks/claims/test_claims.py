from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.claims.claims import CLAIMS, choose_claims
from benchmarks.claims.subjects import FACES, SUBJECTS, Scale, Setting, images_name
from trainer.errors import UserError

DOCS = Path(__file__).parents[3] / "docs" / "claims.md"


def test_the_claims_are_c1_to_c13() -> None:
    assert list(CLAIMS) == [f"C{number}" for number in range(1, 14)]


@pytest.mark.parametrize("name", CLAIMS)
def test_every_claim_has_known_subjects_and_is_in_the_guide(name: str) -> None:
    claim = CLAIMS[name]
    assert set(claim.subjects) <= set(SUBJECTS)
    assert set(claim.curves) <= set(claim.subjects)
    row = f"| {claim.id} | {claim.sentence} | {claim.method} | {', '.join(claim.subjects)} | {claim.outside} |"
    assert row in DOCS.read_text().splitlines()


def test_every_subject_belongs_to_a_claim_and_is_in_the_guide() -> None:
    assert set(SUBJECTS) == {name for claim in CLAIMS.values() for name in claim.subjects}
    text = DOCS.read_text()
    for subject in SUBJECTS.values():
        assert f"| {subject.name} | {subject.model} / {subject.preset} | {subject.data} |" in text


@pytest.mark.parametrize("scale", ["quick", "full"])
@pytest.mark.parametrize("name", SUBJECTS)
def test_every_subject_has_a_valid_config_and_rising_snapshots(name: str, scale: Scale) -> None:
    subject = SUBJECTS[name]
    setting = Setting(scale, "zip:/faces.zip", "data")
    config = setting.config(subject, seed=4)
    assert config.seed == 4
    assert config.dataset == ("zip:/faces.zip" if subject.data == FACES else subject.data)
    epochs = subject.epochs(scale)
    assert sorted(set(epochs)) == list(epochs)
    steps = [setting.step_of(subject, epoch, config, data_images=1000) for epoch in epochs]
    assert sorted(set(steps)) == steps
    for epoch, step in zip(epochs, steps, strict=True):
        images = epoch * (subject.quick_epoch_images if scale == "quick" else 1000)
        assert (step - 1) * config.batch_size < images <= step * config.batch_size


def test_a_stand_in_replaces_missing_faces_only_at_quick_scale() -> None:
    subject = SUBJECTS["wgan-faces"]
    assert Setting("quick", None, "data").config(subject, 0).dataset == "fashion-mnist"
    with pytest.raises(UserError, match="--anime"):
        Setting("full", None, "data").config(subject, 0)


def test_claims_are_chosen_by_name_in_any_case_and_order() -> None:
    assert [claim.id for claim in choose_claims("c10, C2")] == ["C2", "C10"]
    assert len(choose_claims("all")) == 13
    with pytest.raises(UserError, match=r"--claims 'C14': choose from C1"):
        choose_claims("C1,C14")


@pytest.mark.parametrize("name", ["faces.zip", "zip:", "zip:/not/there.zip", "folder:/not/there", ""])
def test_a_missing_set_of_faces_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="--anime"):
        images_name(name)


def test_a_plain_path_names_the_set_of_faces(tmp_path: Path) -> None:
    (tmp_path / "faces.zip").touch()
    (tmp_path / "faces").mkdir()
    for path, name in (("faces.zip", "zip"), ("faces", "folder"), ("faces/", "folder")):
        assert images_name(f"{tmp_path}/{path}") == f"{name}:{tmp_path}/{path.rstrip('/')}"
    assert images_name(f"zip:{tmp_path}/faces.zip") == f"zip:{tmp_path}/faces.zip"
