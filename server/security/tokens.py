"""The tokens that callers must send: read from a file, compared in constant time, read again once it changes."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Final

from server.errors import StartupError
from server.security.reloaded import Reloaded, read_file

_KIND: Final = "a file with one token per line"


class TokenFile:
    """The valid tokens: one per line; empty lines and lines that begin with # do not count.

    Once the file changes, its new content counts. While it cannot be used, the tokens read before stay valid.

    Args:
        flag: the flag that names the file, for messages.
        path: the file.

    Raises:
        StartupError: it cannot be read, holds no token or a malformed one; the message contains no token.
    """

    def __init__(self, flag: str, path: Path) -> None:
        self._flag = flag
        self._path = path
        self._digests = Reloaded([path], self._read)

    def holds(self, token: str) -> bool:
        """Returns whether a token is valid, in a time that does not depend on how much of it is right."""
        sent = _digest(token)
        valid = False
        for digest in self._digests.get():
            valid |= hmac.compare_digest(sent, digest)  # no early end, which would tell which token it is
        return valid

    def _read(self) -> tuple[bytes, ...]:
        content = read_file(self._flag, self._path, _KIND).decode("utf-8", "replace")
        digests = []
        for number, line in enumerate(content.splitlines(), 1):
            token = line.strip()
            if not token or token.startswith("#"):
                continue
            if not all("!" <= character <= "~" for character in token):
                raise StartupError(
                    f"{self._flag}: {self._path}, line {number}: a token must be printable ASCII characters without"
                    " spaces; make one, for example with 'openssl rand -hex 32'"
                )
            digests.append(_digest(token))
        if not digests:
            raise StartupError(
                f"{self._flag}: {self._path} holds no token; write one per line, for example from"
                " 'openssl rand -hex 32'"
            )
        return tuple(digests)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
