"""The floor: a grpc.aio server that answers with zeros of the right size and computes nothing.

    python floor_server.py PORT LATENT_BYTES IMAGE_BYTES

The upper bound of any Python gRPC server on this machine. Runs in our own environment.
"""

from __future__ import annotations

import asyncio
import sys
from functools import cache
from typing import Any

import grpc


def handlers(latent_bytes: int, image_bytes: int) -> grpc.GenericRpcHandler:
    """The method ModelInfer on raw bytes; `latent_bytes` and `image_bytes` are per row."""

    @cache
    def answer_to(rows: int) -> bytes:
        return bytes(rows * image_bytes)

    async def model_infer(request: bytes, _: Any) -> bytes:
        return answer_to(len(request) // latent_bytes)

    method: Any = grpc.unary_unary_rpc_method_handler(model_infer)
    return grpc.method_handlers_generic_handler("inference.GRPCInferenceService", {"ModelInfer": method})


async def serve(port: int, latent_bytes: int, image_bytes: int) -> None:
    """Serves until it is terminated."""
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.aio.server(options=unlimited)
    server.add_generic_rpc_handlers((handlers(latent_bytes, image_bytes),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(*map(int, sys.argv[1:])))
