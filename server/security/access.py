"""Decides which callers may call which methods: by their token, and by the port on which the call arrives."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from server.errors import NotAllowed, Unauthenticated
from server.security.tokens import TokenFile

CONTROL_METHODS: Final = frozenset(
    {"RepositoryModelLoad", "RepositoryModelUnload", "LoadModel", "UnloadModel", "RollbackModel"}
)
"""Methods that change what is served: answered on the admin port only, if there is one."""

ADMIN_METHODS: Final = CONTROL_METHODS | {"ModelStatistics", "RepositoryIndex", "ListVersions"}
"""Methods that need a token of `--admin-token-file`, if there is one."""

_KEY: Final = "authorization"
_SCHEME: Final = "bearer "

Metadata = Iterable[tuple[str, str | bytes]]


class Access:
    """Checks calls on one port.

    Args:
        tokens: one is needed for every method; None: for none.
        admin_tokens: one is needed for `ADMIN_METHODS`, and is good for every other method too; None: `tokens` decides.
        control_at: the address where `CONTROL_METHODS` are answered instead of here; empty: here.

    Attributes:
        control_at: the same.
    """

    def __init__(
        self, tokens: TokenFile | None = None, admin_tokens: TokenFile | None = None, control_at: str = ""
    ) -> None:
        self._tokens = tokens
        self._admin_tokens = admin_tokens
        self.control_at = control_at

    def check(self, method: str, metadata: Metadata | None) -> None:
        """Returns if the call is allowed.

        Args:
            method: the name of the method, without the service.
            metadata: the metadata of the call.

        Raises:
            Unauthenticated: it carries no valid token.
            NotAllowed: it carries one that is not good for this method, or arrives on the wrong port.
        """
        token = None if self._tokens is None and self._admin_tokens is None else _token(metadata)
        is_admin = token is not None and self._admin_tokens is not None and self._admin_tokens.holds(token)
        if self._tokens is not None and not is_admin:
            if token is None:
                raise Unauthenticated(
                    "the call carries no token: send one, as the metadata 'authorization: Bearer TOKEN'"
                )
            if not self._tokens.holds(token):
                raise Unauthenticated("the token is not valid: it is misspelt, or was replaced; ask for a new one")
        if method in CONTROL_METHODS and self.control_at:
            raise NotAllowed(
                f"{method} is answered on the admin address of this server only: call it on {self.control_at}, as its"
                " --admin-address says"
            )
        if method in ADMIN_METHODS and self._admin_tokens is not None and not is_admin:
            raise NotAllowed(f"{method} needs a token of the server's --admin-token-file: send an admin token")


def _token(metadata: Metadata | None) -> str | None:
    """Returns the token that a call carries; None without one."""
    for key, value in metadata or ():
        if key == _KEY and isinstance(value, str) and value[: len(_SCHEME)].lower() == _SCHEME:
            return value[len(_SCHEME) :].strip()
    return None
