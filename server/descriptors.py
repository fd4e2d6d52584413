"""The limit of file descriptors: every connection takes one."""

from __future__ import annotations

import logging
import resource
from typing import Final

RESERVED_DESCRIPTORS: Final = 256  # for model files, logs, the metrics port, and the runtimes

_log = logging.getLogger(__name__)


def raise_descriptor_limit() -> None:
    """Raises the soft limit of this process to the hard one, which needs no privilege."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:  # some systems report a hard limit that they do not grant
        _log.debug("the limit of file descriptors stays at %d: %s", soft, error)
    else:
        _log.debug("limit of file descriptors: %d, raised from %d", hard, soft)


def connections_within(max_connections: int) -> int:
    """Returns how many connections the limit of file descriptors leaves room for, at most `max_connections`."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return max_connections
    return min(max_connections, max(limit - RESERVED_DESCRIPTORS, limit // 2))
