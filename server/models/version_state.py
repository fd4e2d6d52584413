"""What is known about the versions of one model, beyond those that are served."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from server.models.fingerprints import Fingerprint, ModelFiles
from server.models.model_settings import DEFAULT_SETTINGS, ModelSettings

VersionStatus = Literal["READY", "UNAVAILABLE", "LOADING"]


class Failure(NamedTuple):
    """Why a version could not be loaded."""

    reason: str  # one line
    files: Fingerprint  # that were tried


class IndexEntry(NamedTuple):
    """One version in the repository or in service."""

    name: str
    version: int
    state: VersionStatus
    reason: str  # why it is not served, or could not be loaded again; empty if all is well
    labels: tuple[str, ...] = ()
    is_default: bool = False  # whether requests that name no version get it
    is_chosen: bool = False  # whether an operator made it the default


@dataclass(eq=False)
class ModelState:
    """The state of one model. The event loop changes it; threads may read it."""

    changing: asyncio.Lock = field(default_factory=asyncio.Lock)  # one load, unload or rollback at a time
    settings: ModelSettings = DEFAULT_SETTINGS
    settings_error: str = ""  # why config.pbtxt cannot be used; empty if it can
    chosen: int | None = None  # the version that an operator made the default
    unloaded: bool = False  # by an operator: only a load brings it back
    excluded: frozenset[int] = frozenset()  # versions that an operator unloaded
    loading: int | None = None  # the version in progress
    loaded: Mapping[int, Fingerprint] = field(default_factory=dict)  # files of the served versions
    failures: Mapping[int, Failure] = field(default_factory=dict)  # versions that could not be loaded
    applied: ModelFiles | None = None  # the files that the last load saw

    def record_failure(self, version: int, failure: Failure | None) -> None:
        """Records why a version could not be loaded; None once it works."""
        kept = {other: known for other, known in self.failures.items() if other != version}
        self.failures = kept if failure is None else {**kept, version: failure}

    def why_not_served(self, version: int) -> str:
        """The reason why a version that has not failed is not served."""
        if self.unloaded or version in self.excluded:
            return "unloaded"
        if self.chosen is not None and version > self.chosen and self.settings.policy.latest is not None:
            return "newer than the chosen version"
        return "not loaded"

    def forget_choices(self) -> None:
        """Once the model has left the repository: one that appears under its name later is another one."""
        self.chosen, self.unloaded, self.excluded = None, False, frozenset()
