"""Talks to ganserve servers: the ganclient command and Python classes.

from pathlib import Path

from client import AsyncGanClient, GanClient, TlsOptions

with GanClient("127.0.0.1:50051") as client:
    images = client.generate("dcgan", seed=0, count=64)  # uint8 (64, height, width, channels)
    client.grid("dcgan", seed=0).save("grid.png")
    between = client.interpolate("dcgan", 1, 2, steps=10)  # uint8 (10, ...): from seed 1 to seed 2
    photos = [Path("a.jpg").read_bytes(), Path("b.png").read_bytes()]
    paintings = client.translate("cyclegan-a2b", photos, resize=True)  # uint8 (2, height, width, channels)
    for chunk in client.generate_chunks("dcgan", seed=0, count=1_000_000):  # in constant memory, in order
        print(chunk.images.mean())

with GanClient(["10.0.0.1:50051", "10.0.0.2:50051"], channels=4) as client:  # take turns, 4 requests on their way
    images = client.generate("dcgan", seed=0, count=100_000)

tls = TlsOptions(root_certificates=Path("authority.pem"))
async with AsyncGanClient("gan.example.org:443", tls=tls, token="...") as client:  # the same calls as coroutines
    images = await client.generate("dcgan", seed=0, count=64)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from client.errors import (
        AccessDenied,
        DeadlineExceeded,
        GanClientError,
        InvalidRequest,
        ServerBusy,
        ServerFault,
        ServerUnreachable,
        UnknownModel,
        UnsupportedByServer,
        UnwritableOutput,
    )
    from client.sdk.aio_client import AsyncGanClient
    from client.sdk.chunking import Chunk, EncodedChunk
    from client.sdk.client import GanClient
    from client.sdk.model_info import ModelDescription, ModelInfo
    from client.sdk.security import TlsOptions

__all__ = [
    "AccessDenied",
    "AsyncGanClient",
    "Chunk",
    "DeadlineExceeded",
    "EncodedChunk",
    "GanClient",
    "GanClientError",
    "InvalidRequest",
    "ModelDescription",
    "ModelInfo",
    "ServerBusy",
    "ServerFault",
    "ServerUnreachable",
    "TlsOptions",
    "UnknownModel",
    "UnsupportedByServer",
    "UnwritableOutput",
]

# Loaded when they are asked for: gRPC reads its settings when it is imported, and the command line has some to make.
_HOMES = {
    "AccessDenied": "client.errors",
    "AsyncGanClient": "client.sdk.aio_client",
    "Chunk": "client.sdk.chunking",
    "DeadlineExceeded": "client.errors",
    "EncodedChunk": "client.sdk.chunking",
    "GanClient": "client.sdk.client",
    "GanClientError": "client.errors",
    "InvalidRequest": "client.errors",
    "ModelDescription": "client.sdk.model_info",
    "ModelInfo": "client.sdk.model_info",
    "ServerBusy": "client.errors",
    "ServerFault": "client.errors",
    "ServerUnreachable": "client.errors",
    "TlsOptions": "client.sdk.security",
    "UnknownModel": "client.errors",
    "UnsupportedByServer": "client.errors",
    "UnwritableOutput": "client.errors",
}

if not TYPE_CHECKING:  # type checkers see the imports above, and so what does not exist

    def __getattr__(name):
        """The public name `name`."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value
