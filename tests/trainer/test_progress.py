from __future__ import annotations

import io

from rich.console import Console

from trainer.progress import Progress


def printed(progress: Progress) -> str:
    assert isinstance(progress.console.file, io.StringIO)
    return progress.console.file.getvalue()


def test_control_characters_of_file_names_are_shown_as_escapes(quiet: Progress) -> None:
    quiet.say("skipped a\x1b[31m\r.png\nnext")
    assert printed(quiet) == "skipped a\\x1b[31m\\r.png\nnext\n"


def test_names_that_are_not_unicode_are_printed(quiet: Progress) -> None:
    quiet.say("skipped \udcff.png")
    assert printed(quiet) == "skipped \\udcff.png\n"


def test_brackets_are_printed_not_read_as_markup(quiet: Progress) -> None:
    quiet.say("[step 1] [bold]")
    assert printed(quiet) == "[step 1] [bold]\n"


def test_names_between_colons_are_not_read_as_emoji(quiet: Progress) -> None:
    quiet.say("on folder:two: 30 images")
    assert printed(quiet) == "on folder:two: 30 images\n"


def test_a_terminal_breaks_lines_at_spaces_and_keeps_paths_whole() -> None:
    path = "runs/" + "0001-" * 5 + "dcgan"
    line = f"warning: the samples resemble each other, see {path} and more"
    terminal = Progress(Console(file=io.StringIO(), width=24, force_terminal=True, highlight=False, soft_wrap=True))
    terminal.say(line)
    assert printed(terminal).splitlines() == ["warning: the samples", "resemble each other, see", path, "and more"]
    file = Progress(Console(file=io.StringIO(), width=24, highlight=False, soft_wrap=True))
    file.say(line)
    assert printed(file) == f"{line}\n"


def test_without_a_terminal_track_yields_all_items_without_a_bar(quiet: Progress) -> None:
    assert list(quiet.track([1, 2, 3], "decoding")) == [1, 2, 3]
    assert printed(quiet) == ""


def test_on_a_terminal_track_yields_all_items_under_a_bar() -> None:
    progress = Progress(Console(file=io.StringIO(), width=80, force_terminal=True))
    assert list(progress.track([1, 2, 3], "decoding")) == [1, 2, 3]
    assert "decoding" in printed(progress)
