"""How many bytes of the answers that gRPC has sent have not reached the machine of their client."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Final

_OPEN_FILES: Final = Path("/proc/self/fd")
_SIOCOUTQ: Final = 0x5411  # the bytes in the send buffer of a socket that its peer has not acknowledged


def unsent_bytes(ports: Collection[int]) -> int:
    """Returns the bytes that wait in the kernel on the connections to TCP ports of this process.

    gRPC does not tell: for it, an answer is sent once the kernel has it. Always 0 on systems other than Linux.
    """
    if sys.platform != "linux":
        return 0
    return sum(_unsent_bytes(int(file.name), ports) for file in os.scandir(_OPEN_FILES))


def _unsent_bytes(descriptor: int, ports: Collection[int]) -> int:
    try:
        connection = socket.socket(fileno=descriptor)
    except OSError:  # not a socket
        return 0
    try:
        if connection.family not in {socket.AF_INET, socket.AF_INET6} or connection.getsockname()[1] not in ports:
            return 0
        unsent: int
        (unsent,) = struct.unpack("i", fcntl.ioctl(descriptor, _SIOCOUTQ, bytes(4)))
        return unsent
    except OSError:  # it listens, or gRPC has closed it
        return 0
    finally:
        connection.detach()  # it belongs to gRPC
