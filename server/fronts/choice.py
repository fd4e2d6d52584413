"""Chooses the front of a server."""

from __future__ import annotations

import logging

import grpc

from server.config import FrontName
from server.errors import StartupError
from server.fronts.aio import AioFront
from server.fronts.base import MakeFront

_log = logging.getLogger(__name__)


def choose_front(wanted: FrontName) -> MakeFront:
    """Returns a front that works with the installed grpcio.

    Args:
        wanted: its name; auto takes the core front, or grpc.aio and one line in the log if that cannot work.

    Raises:
        StartupError: it cannot work.
    """
    if wanted == "aio":
        return AioFront
    try:
        from server.fronts.core import CoreFront
        from server.fronts.core_library import check_library

        check_library()
    except Exception as error:  # a private interface may have become anything
        if wanted == "core":
            raise StartupError(
                f"--front core: cannot work with grpcio {grpc.__version__} ({error}); leave the flag out, or install"
                " another grpcio"
            ) from error
        _log.warning(
            "grpcio %s is unknown to the fast front (%s), so the slower one answers (--front aio)",
            grpc.__version__,
            error,
        )
        return AioFront
    return CoreFront
