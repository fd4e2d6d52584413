"""Certificates and keys in PEM files, made for a test."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

trustme = pytest.importorskip("trustme", reason="NO TLS IS TESTED: pip install trustme, which makes the certificates")

HOST = "127.0.0.1"


class Pair(NamedTuple):
    """The PEM files of a certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates and writes them to a folder.

    Args:
        folder: an existing folder.
        name: the beginning of the names of the files.
    """

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._authority: Any = trustme.CA()
        self._folder = folder
        self.roots = folder / f"{name}.pem"
        self.roots.write_bytes(self._authority.cert_pem.bytes())

    def issue(self, name: str, host: str = HOST, **validity: Any) -> Pair:
        """Writes a new pair to `<name>.pem` and `<name>.key`, in place of an older one."""
        issued = self._authority.issue_cert(host, **validity)
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        pair.key.write_bytes(issued.private_key_pem.bytes())
        pair.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        return pair

    def issue_expired(self, name: str) -> Pair:
        """Like `issue`, but the certificate expired yesterday."""
        now = datetime.now(UTC)
        return self.issue(name, not_before=now - timedelta(days=3), not_after=now - timedelta(days=1))
