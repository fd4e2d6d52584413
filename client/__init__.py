"""Talks to a ganserve server: the ganclient command and a Python class.

from pathlib import Path

from client import GanClient

with GanClient("127.0.0.1:50051") as client:
    images = client.generate("dcgan", seed=0, count=64)  # uint8 (64, height, width, channels)
    photos = [Path("a.jpg").read_bytes(), Path("b.png").read_bytes()]
    paintings = client.translate("cyclegan-a2b", photos, resize=True)  # uint8 (2, height, width, channels)
"""

from client.chunks import Chunk, EncodedChunk
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
from client.model_info import ModelInfo
from client.sdk import GanClient

__all__ = [
    "Chunk",
    "DeadlineExceeded",
    "EncodedChunk",
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
