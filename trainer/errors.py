"""The trainer's errors: one class for each thing a user can do about them."""

from __future__ import annotations


class UserError(Exception):
    """Something the user asked for cannot be done; the message names the flag and the remedy."""


class RunFolderError(UserError):
    """A folder is not a run folder, or a damaged one."""


class TrainingDivergedError(Exception):
    """A loss or a weight became NaN or infinite; the message names the step and the last good checkpoint."""
