"""The served versions of one model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from server.errors import NotServed
from server.limits import quote
from server.models.served_model import ServedModel

_MAX_LISTED: Final = 20  # versions or labels in a message


class ServedVersions:
    """At least one version of a model; never changes.

    Args:
        by_version: the served versions.
        preferred: the default version if it is served; None means the newest one.
        labels: versions by label, served or not.
    """

    def __init__(self, by_version: Mapping[int, ServedModel], preferred: int | None, labels: Mapping[str, int]) -> None:
        self.by_version = dict(sorted(by_version.items()))
        self.labels = labels
        newest = max(by_version)
        self.default = by_version.get(newest if preferred is None else preferred, by_version[newest])

    def resolve(self, version: int | str) -> ServedModel | None:
        """The version of a number or a label, or the default one for 0; None if it is not served."""
        if version == 0:
            return self.default
        number = self.labels.get(version) if isinstance(version, str) else version
        return None if number is None else self.by_version.get(number)

    def not_served(self, version: int | str) -> NotServed:
        """The error for a version that `resolve` does not find."""
        name = self.default.card.name
        numbers = list(map(str, self.by_version))
        if isinstance(version, int):
            wanted = f"version {version} of {name!r} is not served"
        elif version in self.labels:
            wanted = (
                f"label {quote(version)} of {name!r} stands for version {self.labels[version]}, which is not served"
            )
        else:
            known = ", ".join(list(self.labels)[:_MAX_LISTED])
            wanted = f"{name!r} has no version label {quote(version)}" + (f", only {known}" if known else "")
        several = "version" if len(numbers) == 1 else "one of the versions"
        listed = ", ".join(numbers[-_MAX_LISTED:])
        newest = "the newest one" if self.default.card.version == max(self.by_version) else "the default one"
        return NotServed(f"{wanted}: use {several} {listed}, or 0 for {newest}")
