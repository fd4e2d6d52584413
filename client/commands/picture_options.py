"""Flags of the commands that write a picture, and what they do once it is written."""

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
    """How to tell of what was written.

    Attributes:
        as_json: in one JSON object instead of a line.
        preview: whether to show the picture in the terminal; None: if it says that it can show images.
        open_file: whether to open the file in the desktop's viewer.
    """

    as_json: bool
    preview: bool | None
    open_file: bool

    def tell(self, path: Path, facts: dict[str, object], summary: str, picture: Image.Image | None) -> None:
        """Says what was written, and shows it as the user wishes.

        Args:
            path: what was written.
            facts: for JSON.
            summary: for people; follows the path.
            picture: for the preview; None: there is none to show.
        """
        if self.as_json:
            click.echo(json.dumps({"file": _shown(path), **facts}))
        else:
            if picture is not None and self._shows_preview():
                _show(picture)
            click.echo(one_line(f"{_shown(path)}: {summary}"))
        if self.open_file:
            _open(path)

    def _shows_preview(self) -> bool:
        if self.preview is None:
            return sys.stdout.isatty() and inline_protocol(os.environ) is not None
        return self.preview


def output_options(command: _Command) -> _Command:
    """Adds --json, --preview and --open, which reach the command as `output`."""

    @click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a line.")
    @click.option(
        "--preview/--no-preview",
        default=None,
        help="Show the picture in the terminal, coarsely if it knows colours only.  [default: if it can show images]",
    )
    @click.option("--open", "open_file", is_flag=True, help="Open what was written in the desktop's viewer.")
    @functools.wraps(command)
    def with_output(*arguments: Any, as_json: bool, preview: bool | None, open_file: bool, **named: Any) -> Any:
        if as_json and preview:
            raise click.UsageError("--preview: would spoil what --json prints; give one of them")
        return command(*arguments, output=Output(as_json, preview, open_file), **named)

    return with_output  # type: ignore[return-value]  # the same but for these flags


def _shown(path: Path) -> str:
    name = click.format_filename(path)
    return f"{name}{os.sep}" if path.is_dir() else name


def _show(picture: Image.Image) -> None:
    from rich.console import Console

    # Whoever asks for a preview has colours: 256 at least, whatever little the terminal's name says, or is wished else.
    known = Console(file=sys.stdout, force_terminal=True).color_system
    colours: Literal["truecolor", "256"] = "truecolor" if known == "truecolor" else "256"
    console = Console(file=sys.stdout, force_terminal=True, color_system=colours, no_color=False)
    show_picture(picture, console, inline_protocol(os.environ) if sys.stdout.isatty() else None)


def _open(path: Path) -> None:
    """Opens the file; that there is no viewer is said, and no reason to fail."""
    if not _has_desktop() or click.launch(str(path.absolute())):
        click.echo(one_line(f"{_shown(path)}: there is no viewer to open it with; leave --open out"), err=True)


def _has_desktop() -> bool:
    """Whether there can be a viewer. On Linux what opens files tries text browsers when there is no desktop."""
    if not sys.platform.startswith("linux") or "microsoft" in platform.release().lower():  # WSL asks Windows
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
