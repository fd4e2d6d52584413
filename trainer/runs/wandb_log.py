"""Logs a run to Weights & Biases (--wandb PROJECT). The package is an optional dependency.

Sends measurements, metrics, warnings, sample grids, and the settings without their paths. The package decides
where to send them; WANDB_MODE=offline keeps them on this machine.
"""

from __future__ import annotations

import importlib.util
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from PIL import Image

from ganserve.files import replace_file
from trainer.config import AnyConfig
from trainer.errors import RunFolderError, UserError
from trainer.runs.run_log import RunLog, public_settings

_ID_FILE: Final = "wandb-id"  # in the run folder, so that a resumed run continues the same log
_ID: Final = re.compile(r"[0-9a-f]{16}")


def check_wandb(project: str) -> None:
    """Raises UserError if the package is not installed."""
    if importlib.util.find_spec("wandb") is None:
        raise UserError(
            f"--wandb {project}: the package wandb is not installed; run pip install wandb, or leave the flag out"
        )


@contextmanager
def wandb_logs(project: str | None, run: Path, config: AnyConfig) -> Iterator[Sequence[RunLog]]:
    """Logs a run folder while entered; without a project, yields no log.

    Raises:
        UserError: the package refuses, for example without a login.
    """
    if project is None:
        yield ()
        return
    check_wandb(project)
    log = WandbLog(project, run, config)
    try:
        yield (log,)
    except BaseException:
        log.close(exit_code=1)
        raise
    log.close()


class WandbLog(RunLog):
    """Passes everything to the package, which sends it from its own process.

    Args:
        project: in the user's account.
        run: the run folder, which gives the run its name.
        config: the settings.
    """

    def __init__(self, project: str, run: Path, config: AnyConfig) -> None:
        settings = public_settings(config)
        run_id = _run_id(run)
        try:
            self._wandb: Any = importlib.import_module("wandb")
            self._run = self._wandb.init(
                project=project, id=run_id, resume="allow", name=run.name, dir=str(run), config=settings
            )
        except (Exception, SystemExit) as error:  # the package raises any error, and some versions exit
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"--wandb {project}: cannot start ({reason}); try WANDB_MODE=offline") from error

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """See `RunLog`."""
        self._run.log(dict(values), step=step)

    def text(self, step: int, name: str, line: str) -> None:
        """See `RunLog`: an alert, which the service can mail to the user."""
        self._run.alert(title=name, text=f"step {step}: {line}")

    def image(self, step: int, name: str, image: Image.Image) -> None:
        """See `RunLog`."""
        self._run.log({name: self._wandb.Image(image)}, step=step)

    def flush(self) -> None:
        """See `RunLog`; the package flushes by itself."""

    def close(self, exit_code: int = 0) -> None:
        """See `RunLog`; a code that is not 0 marks the run as failed."""
        self._run.finish(exit_code=exit_code)


def _run_id(run: Path) -> str:
    path = run / _ID_FILE
    if not path.is_file():
        replace_file(path, secrets.token_hex(8).encode())
    run_id = path.read_bytes()[:64].decode("ascii", "replace").strip()
    if not _ID.fullmatch(run_id):
        raise RunFolderError(f"{path}: not the id of a run; delete it to start a new run in Weights & Biases")
    return run_id
