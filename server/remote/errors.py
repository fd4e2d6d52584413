"""Errors about a model repository at a URL; their messages are one line, with a remedy."""

from __future__ import annotations


class RemoteError(Exception):
    """The command cannot work with this URL, folder or model name, however often it is tried."""


class RemoteUnavailable(RemoteError):  # noqa: N818 - says what is wrong
    """The remote repository, or the local folder, cannot be used now; trying again may help."""


class NotThere(RemoteUnavailable):
    """There is no such bucket, folder or file; it may come."""
