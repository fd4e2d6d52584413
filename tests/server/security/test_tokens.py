from __future__ import annotations

import hmac
from pathlib import Path
from typing import Any

import pytest

from server.errors import StartupError
from server.security.tokens import TokenFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text("# of the shop\nfirst\n\n  second  \r\n#third\n")
    return path


@pytest.mark.parametrize(
    ("token", "valid"),
    [
        ("first", True),
        ("second", True),
        ("#third", False),
        ("third", False),
        ("", False),
        ("firs", False),
        ("first ", False),
        ("FIRST", False),
        ("fürst", False),
        ("\udc80", False),
    ],
)
def test_lines_are_tokens_except_comments_and_empty_ones(path: Path, token: str, valid: bool) -> None:
    assert TokenFile("--token-file", path).holds(token) is valid


def test_a_token_is_compared_with_all_of_them_in_constant_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(sent: bytes, valid: bytes) -> bool:
        compared.append((sent, valid))
        return sent == valid

    monkeypatch.setattr(hmac, "compare_digest", compare)
    for token in ("first", "second", "x", "y" * 1000):
        compared.clear()
        TokenFile("--token-file", path).holds(token)
        assert [(len(sent), len(valid)) for sent, valid in compared] == [(32, 32)] * 2


def test_a_changed_file_counts_at_once(path: Path) -> None:
    file = TokenFile("--token-file", path)
    path.write_text("third")
    assert file.holds("third")
    assert not file.holds("first")


@pytest.mark.parametrize("broken", ["", "# only comments\n", "two words\n", None], ids=repr)
def test_a_file_that_became_unusable_keeps_the_old_tokens(
    path: Path, broken: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    file = TokenFile("--token-file", path)
    if broken is None:
        path.unlink()
    else:
        path.write_text(broken)
    assert file.holds("first")
    assert not file.holds("third")
    [line] = caplog.messages
    assert line.startswith(f"--token-file: {path}")
    assert line.endswith("; what was read before stays in use")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "holds no token"),
        ("# none\n", "holds no token"),
        ("good\nno good\n", "line 2: a token must be"),
        (b"\xff\xfe", "line 1: a token must be"),
    ],
)
def test_an_unusable_file_is_named_without_its_content(path: Path, content: Any, reason: str) -> None:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(StartupError, match=reason) as raised:
        TokenFile("--token-file", path)
    assert str(raised.value).startswith(f"--token-file: {path}")
    assert "openssl rand -hex 32" in str(raised.value)
    assert "good" not in str(raised.value)
