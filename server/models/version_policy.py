"""Which versions of a model are served: Triton's version policies, and a version that an operator chose."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class VersionPolicy:
    """The newest `latest` versions, or the `specific` ones, or all versions if both are None."""

    latest: int | None = 1
    specific: frozenset[int] | None = None

    def candidates(self, versions: Collection[int], chosen: int | None) -> list[int]:
        """The versions to serve, the newest first; `wanted_count` says how many of them.

        Args:
            versions: in the repository.
            chosen: a version that an operator made the default. With `latest`, newer ones are not served then, so that
                going back takes no more memory.
        """
        if self.latest is not None:
            fitting = {version for version in versions if chosen is None or version <= chosen}
        elif self.specific is not None:
            fitting = {version for version in versions if version in self.specific or version == chosen}
        else:
            fitting = set(versions)
        return sorted(fitting, reverse=True)

    def missing(self, versions: Collection[int]) -> list[int]:
        """The versions that the policy names and the repository does not have."""
        return sorted((self.specific or frozenset()) - set(versions))

    def wanted_count(self, candidates: Collection[int]) -> int:
        """How many of the candidates are served, if that many work."""
        return len(candidates) if self.latest is None else self.latest

    def __str__(self) -> str:
        if self.latest is not None:
            return f"latest {self.latest}"
        if self.specific is not None:
            return f"specific {', '.join(map(str, sorted(self.specific)))}"
        return "all"
