from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from exporter.__main__ import main
from exporter.errors import InputError
from exporter.guest import guest


def test_the_guest_sees_its_own_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["exporter", "--name", "x"])
    with guest("--module a:B", "a.py", lambda line: None):
        assert sys.argv == ["a.py"]
        argparse.ArgumentParser().parse_args()
    assert sys.argv == ["exporter", "--name", "x"]


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda: sys.exit("no GPU"), "exit code no GPU"),
        (lambda: sys.exit(3), "exit code 3"),
        (lambda: argparse.ArgumentParser("a.py").parse_args(["--odd"]), "a.py: error: unrecognized arguments: --odd"),
    ],
)
def test_an_exit_becomes_one_line_with_a_way_out(
    end: object, reason: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["exporter"])
    assert callable(end)
    with pytest.raises(InputError) as caught, guest("--module a:B", "a.py", lambda line: None):
        end()
    assert str(caught.value) == (
        f"--module a:B: its code ends the program ({reason}); move the class to a file of its own that only defines it,"
        " and name that file in --module"
    )
    assert capsys.readouterr() == ("", "")  # no usage of another program
    assert sys.argv == ["exporter"]


def test_what_the_guest_prints_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with guest("--module a:B", "a.py", lambda line: None):
        sys.stdout.write("to stdout\n")
        sys.stderr.write("to stderr\n")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert set(captured.err.splitlines()) == {"to stdout", "to stderr"}


def test_a_warning_is_one_line_with_its_file_and_is_not_repeated() -> None:
    notes: list[str] = []
    with guest("--module a:B", "a.py", notes.append):
        for _ in range(2):
            warnings.warn("tanh is old (use\ntorch.tanh)", UserWarning, stacklevel=1)
    assert notes == ["test_guest.py warns: tanh is old (use torch.tanh)"]
    warnings.warn("tanh is old (use\ntorch.tanh)", UserWarning, stacklevel=1)  # would be an error


def test_other_errors_pass() -> None:
    with pytest.raises(ValueError, match="mine"), guest("--module a:B", "a.py", lambda line: None):
        raise ValueError("mine")


SCRIPTS = {
    "parses": "opt = argparse.ArgumentParser().parse_args()",
    "parses_with_defaults": "p = argparse.ArgumentParser(); p.add_argument('--n', default=4); p.parse_args()",
    "prints": "print('Namespace(n=4)')",
    "warns": "warnings.warn('old'); warnings.warn('older', DeprecationWarning)",
    "needs_arguments": "p = argparse.ArgumentParser(); p.add_argument('data'); p.parse_args()",
    "trains_and_exits": "print('epoch 1'); sys.exit()",
    "reads_argv": "assert len(sys.argv) == 1, sys.argv",
}


def export_script(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Result:
    """Exports a generator whose file runs SCRIPTS[name] when it is imported."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    # As a user starts it: the process has our command line.
    monkeypatch.setattr(sys, "argv", ["exporter", "--module", f"script_{name}:Generator"])
    generator = "from tests.exporter.generators import FlatGenerator as Generator"
    (folder / f"script_{name}.py").write_text(f"import argparse, sys, warnings\n{SCRIPTS[name]}\n{generator}\n")
    from tests.exporter.generators import LATENT_DIM, FlatGenerator

    torch.save(FlatGenerator().state_dict(), folder / "g.pth")
    flags = ["--module", f"script_{name}:Generator", "--weights", "g.pth", "--latent-dim", str(LATENT_DIM)]
    return CliRunner().invoke(main, [*flags, "--name", "mine"])


@pytest.mark.usefixtures("without_onnx")
@pytest.mark.parametrize("name", sorted(SCRIPTS.keys() - {"needs_arguments", "trains_and_exits"}))
def test_the_file_of_a_network_may_be_a_script(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = export_script(tmp_path, name, monkeypatch)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "models/mine/1"
    assert "Namespace" not in result.stdout
    assert (f"script_{name}.py warns: old" in result.stderr.splitlines()) == (name == "warns")


@pytest.mark.parametrize("name", ["needs_arguments", "trains_and_exits"])
def test_a_script_that_exits_is_refused_in_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = export_script(tmp_path, name, monkeypatch)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "usage:" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith(
        f"Error: --module script_{name}:Generator: its code ends the program"
    )
