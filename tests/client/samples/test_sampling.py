"""Sampling into every kind of output: interruptions, against runs without one, and outputs that exist already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from client.errors import InvalidRequest, ServerUnreachable, UnknownModel
from tests.client.samples.sampling_source import (
    OUTPUTS,
    Source,
    sample,
    tree,
    uninterrupted,
)


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("stop_after", [1, 4, 8])
def test_a_stopped_run_resumes_to_the_same_files(tmp_path: Path, name: str, stop_after: int) -> None:
    path = tmp_path / "parts" / name
    path.parent.mkdir()
    first = sample(path, Source(), stop_after=stop_after)
    assert first.rows_done < 10
    source = Source()
    second = sample(path, source)
    assert (second.rows_before, second.rows_done) == (first.rows_done, 10)
    assert source.asked == [first.rows_done]
    assert tree(path) == uninterrupted(tmp_path, name)


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("stop_after", [1, 4])
def test_a_stopped_part_resumes_to_the_same_files(tmp_path: Path, name: str, stop_after: int) -> None:
    for folder in ("parts", "whole"):
        (tmp_path / folder).mkdir()
    part: dict[str, Any] = {"count": 30, "rows": range(11, 22)}
    first = sample(tmp_path / "parts" / name, Source(), stop_after=stop_after, **part)
    assert first.rows_done < 11
    source = Source()
    second = sample(tmp_path / "parts" / name, source, **part)
    assert (second.rows_before, second.rows_done, source.asked) == (first.rows_done, 11, [11 + first.rows_done])
    sample(tmp_path / "whole" / name, Source(), **part)
    assert tree(tmp_path / "parts" / name) == tree(tmp_path / "whole" / name)


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_run_that_lost_its_server_resumes_to_the_same_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / "parts" / name
    path.parent.mkdir()
    with pytest.raises(ServerUnreachable):
        sample(path, Source(fails_at=9))
    sample(path, Source())
    assert tree(path) == uninterrupted(tmp_path, name)


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_complete_output_is_left_unchanged_without_requests(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    sample(path, Source())
    before = tree(path)
    source = Source(version=9)
    sampling = sample(path, source)
    assert (sampling.rows_before, sampling.rows_done, source.asked) == (10, 10, [])
    assert tree(path) == before


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("stop_after", [4, None])
@pytest.mark.parametrize(
    ("fields", "difference"),
    [
        ({"seed": 8}, "--seed 7, not 8"),
        ({"count": 11}, "--n 10, not 11"),
        ({"version": 4}, "--version 3, not 4"),
        ({"model": "wgan"}, "--model dcgan, not wgan"),
        ({"rows": range(2, 9)}, r"rows 0\.\.10, not 2\.\.9"),
    ],
)
def test_other_samples_are_overwritten_only_on_request(
    tmp_path: Path, name: str, stop_after: int | None, fields: dict[str, Any], difference: str
) -> None:
    path = tmp_path / name
    sample(path, Source(), stop_after=stop_after)
    before = tree(path)
    with pytest.raises(
        InvalidRequest, match=rf"holds other samples \({difference}\); name another place, or give --overwrite"
    ):
        sample(path, Source(), **fields)
    assert tree(path) == before


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("stop_after", [4, None])
def test_overwriting_removes_the_old_samples(tmp_path: Path, name: str, stop_after: int | None) -> None:
    path = tmp_path / "parts" / name
    path.parent.mkdir()
    sample(path, Source(), stop_after=stop_after, seed=5, count=20)
    sample(path, Source(), overwrite=True)
    assert tree(path) == uninterrupted(tmp_path, name)


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_stopped_overwriting_run_resumes_with_the_same_flags(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    sample(path, Source(), seed=5)
    sample(path, Source(), overwrite=True, stop_after=4)
    source = Source()
    sample(path, source, overwrite=True)
    assert source.asked == [4]


@pytest.mark.parametrize("name", OUTPUTS)
def test_nothing_is_overwritten_before_there_is_an_image(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    sample(path, Source())
    before = tree(path)
    with pytest.raises(ServerUnreachable):
        sample(path, Source(fails_at=0), overwrite=True, seed=8)
    assert tree(path) == before


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_resumed_run_keeps_the_first_seed_and_version(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    first = sample(path, Source(), stop_after=4, seed=None)
    source = Source()
    second = sample(path, source, seed=None)
    assert (first.rows_done, source.asked, second.rows_done) == (4, [4], 10)


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_version_that_is_no_longer_served_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    sample(path, Source(), stop_after=4)
    with pytest.raises(UnknownModel, match=r"out.* was started with version 3: serve that, or name another place"):
        sample(path, Source(version=4))


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_model_whose_image_size_has_changed_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    sample(path, Source(), stop_after=4)
    with pytest.raises(InvalidRequest, match="another size"):
        sample(path, Source(height=5))
