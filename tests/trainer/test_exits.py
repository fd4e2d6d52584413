from __future__ import annotations

import signal

import pytest

from trainer.errors import RunFolderError, UserError
from trainer.exits import StopOnSignal, mistakes_in_one_line


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("--lr: too\n  large"), 2, "Error: --lr: too large"),
        (RunFolderError("runs/1: not a run folder"), 2, "Error: runs/1: not a run folder"),
        (FileNotFoundError(2, "No such file or directory", "a.png"), 2, "Error: a.png: No such file or directory"),
        (OSError(28, "No space left on device"), 2, "Error: a file: No space left on device"),
        (KeyboardInterrupt(), 130, "Error: nothing was written"),
        (KeyboardInterrupt("while compiling"), 130, "Error: while compiling"),
    ],
)
def test_an_error_ends_the_command_with_one_line_and_its_code(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_, mistakes_in_one_line("nothing was written"):
        raise error
    assert exit_.value.code == code
    assert capsys.readouterr() == ("", f"{line}\n")


def test_an_unexpected_exception_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), mistakes_in_one_line("interrupted"):
        _ = 1 // 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_sets_the_flag_and_the_next_one_has_its_default_effect(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopOnSignal() as stop:
        assert not stop()
        signal.raise_signal(number)
        assert stop()
        assert signal.getsignal(number) == signal.SIG_DFL
    assert signal.getsignal(number) == before
