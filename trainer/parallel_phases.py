"""What processes that train together do one at a time, all or not at all, and which of them speaks.

What goes wrong on one is so told once, and ends all of them in the same way. Alone, a process is the first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Final

from trainer.distributed import PeerError, any_of_all, is_first, texts_of_all, world_size
from trainer.errors import RunFolderError, TrainingDivergedError, UserError

_TOLD: Final = {error.__name__: error for error in (UserError, RunFolderError, TrainingDivergedError)}


@contextmanager
def first_speaks() -> Iterator[None]:
    """Within it all processes but the first are silent; what ends them unexpectedly is told by Python, after it."""
    if is_first():
        yield
        return
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


@contextmanager
def together() -> Iterator[None]:
    """What is done within ends at the same time on all processes, and if it fails on one, then on all.

    It must not exchange anything itself, but for `first_before_others`. Every process raises the error of the first
    that failed; where that one has no message for the user, it alone raises it, and the others a PeerError. An OSError
    becomes a UserError.
    """
    if world_size() == 1:
        yield
        return
    try:
        yield
    except PeerError:  # of `first_before_others`
        _raise_first(None)
        raise
    except OSError as error:
        _raise_first(UserError(f"{str(error.filename or 'a file')[:200]}: {error.strerror}"))
    except Exception as error:
        _raise_first(error)
        raise
    else:
        _raise_first(None)


@contextmanager
def first_before_others(wanted: bool) -> Iterator[None]:
    """If `wanted`, the first process does what is within before the others do: it may leave files for them.

    Raises:
        PeerError: the first one failed, so that the others need not try.
    """
    if not wanted or world_size() == 1:
        yield
        return
    if not is_first():
        if any_of_all(False):
            raise PeerError("the first process failed")
        yield
        return
    try:
        yield
    except Exception:
        any_of_all(True)
        raise
    any_of_all(False)


def _raise_first(own: Exception | None) -> None:
    name = type(own).__name__
    outcomes = texts_of_all("" if own is None else f"{name if name in _TOLD else ''}:{own}")
    failed = next((outcome for outcome in outcomes if outcome), None)
    if failed is None or (own is not None and name not in _TOLD):
        return
    kind, _, message = failed.partition(":")
    if not kind:
        raise PeerError("another process failed") from None
    raise _TOLD[kind](message) from None
