from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest

from server.engines.profile import (
    Layout,
    Limits,
    Machine,
    Measured,
    Profile,
    TunedModel,
    processor_name,
    read_profile,
    usable_profile,
    write_profile,
)
from server.errors import StartupError

LIMITS = Limits(inline_rows=0, min_share_rows=1, wide_rows=1, large_rows=8, max_batch_rows=4, large_batch_rows=64)
PROFILE = Profile(
    machine=Machine("a processor", 2, "1.23"),
    models={"tiny": TunedModel("0" * 64, "cpu", 2, 1, "bf16", LIMITS)},
    measured={"tiny": [Measured(Layout("onnx", "fp32", 2, 1), 2, 4, 80.0)]},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "profile.json"


def test_a_profile_is_read_as_it_was_written(path: Path) -> None:
    write_profile(path, PROFILE)
    assert read_profile(path) == PROFILE
    assert list(path.parent.iterdir()) == [path]
    assert json.loads(path.read_text())["schema_version"] == 1


def test_a_measurement_knows_how_long_a_batch_took() -> None:
    assert PROFILE.measured["tiny"][0].batch_s == pytest.approx(0.1)


def test_what_was_there_stays_if_the_new_profile_cannot_be_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    path.write_text("before")
    monkeypatch.setattr("server.engines.profile.os.fsync", full)
    with pytest.raises(StartupError, match=r"^--out: .*profile\.json cannot be written \(No space left on device\)"):
        write_profile(path, PROFILE)
    assert path.read_text() == "before"
    assert list(path.parent.iterdir()) == [path]


def changed(*keys: str, value: Any) -> bytes:
    """The text of PROFILE with another value in one place."""
    content = msgspec.to_builtins(PROFILE)
    place = content
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        changed("schema_version", value=2),
        changed("comment", value="mine"),
        changed("machine", "cores", value=0),
        changed("models", "tiny", "sha256", value="abc"),
        changed("models", "tiny", "engines", value=0),
        changed("models", "tiny", "engines", value=200),  # on 2 cores
        changed("models", "tiny", "precision", value="int8"),
        changed("models", "tiny", "precision", value="fp32"),  # and large_rows say from when on bf16 pays
        changed("models", "tiny", "limits", "large_rows", value=None),
        changed("models", "tiny", "limits", "min_share_rows", value=0),
        changed("models", "tiny", "limits", "max_batch_rows", value=0),
        changed("models", "tiny", "limits", "inline_rows", value=-1),
        changed("measured", "tiny", value=[{}]),
    ],
)
def test_what_is_no_profile_is_one_line_that_names_the_flag_and_the_remedy(path: Path, text: bytes) -> None:
    path.write_bytes(text)
    with pytest.raises(StartupError) as caught:
        read_profile(path)
    assert str(caught.value).startswith(f"--profile: {path} is not a profile (")
    assert str(caught.value).endswith(f"; write one with python -m server tune --out {path}")
    assert "\n" not in str(caught.value)


def test_a_profile_that_is_not_there_is_one_line(path: Path) -> None:
    with pytest.raises(StartupError, match=r"^--profile: .* cannot be read \(No such file or directory\); write one"):
        read_profile(path)


def test_a_file_without_end_is_not_read_to_its_end() -> None:
    with pytest.raises(StartupError, match="larger than"):
        read_profile(Path("/dev/zero"))


def test_a_profile_of_another_number_of_cores_is_warned_of_once_and_not_used(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_profile(path, PROFILE)
    with caplog.at_level(logging.WARNING):
        assert usable_profile(path, 2, "a processor") == PROFILE
        assert not caplog.records
        assert usable_profile(path, 3, "a processor") is None
        assert usable_profile(path, 3, "a processor") is None
    (record,) = caplog.records
    assert "measured on 2 cores and this process may use 3" in record.getMessage()


def test_a_profile_of_another_processor_is_warned_of_once_and_used(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_profile(path, PROFILE)
    with caplog.at_level(logging.WARNING):
        assert usable_profile(path, 2, "another one") == PROFILE
        assert usable_profile(path, 2, "another one") == PROFILE
    (message,) = caplog.messages
    assert f"--profile: {path} was measured on a processor and this is another one" in message


def test_this_processor_has_a_name() -> None:
    assert processor_name()
    assert processor_name() == processor_name().strip()
