"""The client for ganserve servers: the ganclient command, and Python classes.

from pathlib import Path

from client import AsyncGanClient, GanClient, LocalClient, TlsOptions

with GanClient("127.0.0.1:50051") as client:
    images = client.generate("dcgan", seed=0, count=64)  # uint8 (64, height, width, channels)
    client.grid("dcgan", seed=0).save("grid.png")
    between = client.interpolate("dcgan", 1, 2, steps=10)  # uint8 (10, ...): from seed 1 to seed 2
    photos = [Path("a.jpg").read_bytes(), Path("b.png").read_bytes()]
    paintings = client.translate("cyclegan-a2b", photos, resize=True)  # uint8 (2, height, width, channels)
    for chunk in client.generate_chunks("dcgan", seed=0, count=1_000_000):  # in order, in constant memory
        print(chunk.images.mean())

with GanClient(["10.0.0.1:50051", "10.0.0.2:50051"], channels=4) as client:  # both, 4 requests in flight
    images = client.generate("dcgan", seed=0, count=100_000)

with LocalClient("models") as client:  # the same calls without a server
    images = client.generate("dcgan", seed=0, count=64)

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
        VersionNotLoaded,
    )
    from client.sdk.aio_client import AsyncGanClient
    from client.sdk.chunking import Chunk, EncodedChunk
    from client.sdk.client import GanClient
    from client.sdk.local_client import LocalClient
    from client.sdk.model_control import VersionInfo
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
    "LocalClient",
    "ModelDescription",
    "ModelInfo",
    "ServerBusy",
    "ServerFault",
    "ServerUnreachable",
    "TlsOptions",
    "UnknownModel",
    "UnsupportedByServer",
    "UnwritableOutput",
    "VersionInfo",
    "VersionNotLoaded",
]

# Imported on first use: gRPC reads its settings on import, and the command line sets some first.
_MODULES = {
    "AsyncGanClient": "client.sdk.aio_client",
    "Chunk": "client.sdk.chunking",
    "EncodedChunk": "client.sdk.chunking",
    "GanClient": "client.sdk.client",
    "LocalClient": "client.sdk.local_client",
    "ModelDescription": "client.sdk.model_info",
    "ModelInfo": "client.sdk.model_info",
    "TlsOptions": "client.sdk.security",
    "VersionInfo": "client.sdk.model_control",
}

if not TYPE_CHECKING:  # type checkers see the imports above

    def __getattr__(name):
        """Imports a public name on first use."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_MODULES.get(name, "client.errors")), name)
        return value
