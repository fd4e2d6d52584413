"""Talks to a ganserve server: the ganclient command and a Python class.

from client import GanClient

with GanClient("127.0.0.1:50051") as client:
    images = client.generate("dcgan", seed=0, count=64)  # uint8 (64, height, width, channels)
"""

from client.errors import (
    DeadlineExceeded,
    GanClientError,
    InvalidRequest,
    ServerBusy,
    ServerFault,
    ServerUnreachable,
    UnknownModel,
    UnwritableOutput,
)
from client.sdk import Chunk, GanClient
from client.wire import ModelInfo

__all__ = [
    "Chunk",
    "DeadlineExceeded",
    "GanClient",
    "GanClientError",
    "InvalidRequest",
    "ModelInfo",
    "ServerBusy",
    "ServerFault",
    "ServerUnreachable",
    "UnknownModel",
    "UnwritableOutput",
]
