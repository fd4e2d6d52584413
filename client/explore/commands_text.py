"""The ganclient commands that reproduce what the page shows, quoted for a shell."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from client.sdk.addresses import DEFAULT_ADDRESS
from client.sdk.model_info import ModelInfo

_NOT_FOR_FILE_NAMES: Final = re.compile(r"[^A-Za-z0-9._-]+")

_EXACT: Final = ("--scale", "1")  # the pixels that the page shows, not magnified


def file_stem(model: ModelInfo, what: str) -> str:
    """A file name without extension, such as "dcgan-3-picture"; safe for any model name."""
    name = _NOT_FOR_FILE_NAMES.sub("_", model.name).lstrip(".-_")[:80] or "model"
    return f"{name}-{model.version}-{what}"


@dataclass(frozen=True)
class Commands:
    """Writes commands for one server.

    Args:
        connection_flags: Such as ("--address", "127.0.0.1:50051"); never a secret.
    """

    connection_flags: Sequence[str] = ()

    def grid(self, model: ModelInfo, count: int, seed: int, columns: int, out: str) -> str:
        """The samples of a seed, as one picture."""
        return self._text("grid", model, "--n", count, "--seed", seed, "--columns", columns, *_EXACT, "--out", out)

    def latents(self, model: ModelInfo, file: str, out: str) -> str:
        """The images of the latents in a file."""
        return self._text("latents", model, *_EXACT, "--out", out, first=file)

    def interpolate(self, model: ModelInfo, file: str, steps: int, linear: bool, out: str) -> str:
        """The walk between the two latents in a file."""
        flags = ("--linear",) if linear else ()
        return self._text("interpolate", model, "--latents", file, "--steps", steps, *flags, *_EXACT, "--out", out)

    def traverse(
        self, model: ModelInfo, count: int, seed: int, dimensions: Sequence[int], values: Sequence[float], out: str
    ) -> str:
        """The traversal sheet of the first latents of a seed."""
        dims, at = ",".join(map(str, dimensions)), ",".join(f"{value:.9g}" for value in values)
        return self._text(
            "traverse", model, "--seed", seed, "--n", count, f"--dims={dims}", f"--values={at}", *_EXACT, "--out", out
        )

    def translate(self, model: ModelInfo, file: str, out: str) -> str:
        """The translation of a picture file."""
        return self._text("translate", model, "--resize", "--out", out, first=file)

    def animation(self, model: ModelInfo, file: str, steps: int, linear: bool, out: str) -> str:
        """The walk through the latents in a file and back to the first, as an animation."""
        flags = ("--linear",) if linear else ()
        return self._text("interpolate", model, "--latents", file, "--steps", steps, "--loop", *flags, "--out", out)

    @property
    def place(self) -> str:
        """The address of the server, or the folder of the models that this process has loaded."""
        flags = list(self.connection_flags)
        named = [flags[flags.index(flag) + 1] for flag in ("--models", "--address") if flag in flags]
        return named[0] if named else DEFAULT_ADDRESS

    def start_server(self) -> str:
        """The command that starts a server at the address; it does not know the server's folder of models.

        Empty if there is no server to start.
        """
        if "--models" in self.connection_flags:
            return ""
        return shlex.join(["python", "-m", "server", "--models", "models", "--address", self.place])

    def _text(self, command: str, model: ModelInfo, *arguments: object, first: str | None = None) -> str:
        words = ["ganclient", command]
        if first is not None:
            words.append(f"./{first}" if first.startswith("-") else first)
        words += [f"--model={model.name}" if model.name.startswith("-") else "--model"]
        words += [] if model.name.startswith("-") else [model.name]
        words += ["--version", str(model.version), *map(str, arguments), *self.connection_flags]
        return shlex.join(words)
