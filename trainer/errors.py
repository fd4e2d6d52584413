"""The trainer's errors: one class per remedy."""

from __future__ import annotations


class UserError(Exception):
    """A mistake of the user; the message names the flag or field, the reason and the remedy."""


class RunFolderError(UserError):
    """A folder is not a run folder, or is damaged."""


class TrainingDivergedError(Exception):
    """A loss or a weight became NaN or infinite; the message names the step and the last good checkpoint."""
