"""The flags --json, --preview and --open of the commands that write a picture, and the report after writing."""

from __future__ import annotations

import functools
import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import click
from PIL import Image

from client.commands.preview import inline_protocol, show_picture
from client.errors import one_line

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Output:
    """How to report what was written.

    Attributes:
        as_json: Print one JSON object instead of a line.
        preview: Show the picture in the terminal; None: only if the terminal can display images.
        open_file: Open the file in the desktop's viewer.
    """

    as_json: bool
    preview: bool | None
    open_file: bool

    def report(self, path: Path, facts: dict[str, object], summary: str, picture: Image.Image | None) -> None:
        """Reports a written file or folder, and shows it if the flags say so.

        Args:
            path: The file or folder.
            facts: The fields of the JSON object.
            summary: The text that follows the path on the line.
            picture: For the preview; None: no preview.
        """
        preview = self.preview
        if preview is None:
            preview = sys.stdout.isatty() and inline_protocol(os.environ) is not None
        if self.as_json:
            click.echo(json.dumps({"file": _shown(path), **facts}))
        else:
            if picture is not None and preview:
                show_in_terminal(picture)
            click.echo(one_line(f"{_shown(path)}: {summary}"))
        if self.open_file:
            _open(path)


def output_options(command: _Command) -> _Command:
    """Adds --json, --preview and --open; the command gets them as `output`."""

    @click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
    @click.option(
        "--preview/--no-preview",
        default=None,
        help="Show the picture in the terminal, as coloured blocks if it cannot display images."
        "  [default: if the terminal displays images]",
    )
    @click.option("--open", "open_file", is_flag=True, help="Open the result in the default viewer.")
    @functools.wraps(command)
    def with_output(*arguments: Any, as_json: bool, preview: bool | None, open_file: bool, **named: Any) -> Any:
        if as_json and preview:
            raise click.UsageError("--preview and --json: both print to stdout; give one of them")
        return command(*arguments, output=Output(as_json, preview, open_file), **named)

    return with_output  # type: ignore[return-value]  # the same command with these flags


def _shown(path: Path) -> str:
    name = click.format_filename(path)
    return f"{name}{os.sep}" if path.is_dir() else name


def show_in_terminal(picture: Image.Image) -> None:
    """Prints a picture to stdout: as an image if the terminal supports it, otherwise as coloured half blocks."""
    from rich.console import Console

    # With --preview, use at least 256 colours, even if TERM or NO_COLOR says otherwise.
    known = Console(file=sys.stdout, force_terminal=True).color_system
    colours: Literal["truecolor", "256"] = "truecolor" if known == "truecolor" else "256"
    console = Console(file=sys.stdout, force_terminal=True, color_system=colours, no_color=False)
    show_picture(picture, console, inline_protocol(os.environ) if sys.stdout.isatty() else None)


def _open(path: Path) -> None:
    """Opens the file; without a viewer, prints a warning."""
    if not _has_desktop() or click.launch(str(path.absolute())):
        click.echo(one_line(f"{_shown(path)}: no viewer is available; leave out --open"), err=True)


def _has_desktop() -> bool:
    """Whether there is a desktop. Without one, xdg-open on Linux would try text browsers."""
    if not sys.platform.startswith("linux") or "microsoft" in platform.release().lower():  # WSL asks Windows
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
