"""The methods of the server on each channel, which take turns. Sends nothing."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import grpc

from client.steps import Method
from ganserve.v1.generator_pb2_grpc import GeneratorStub


class Stubs:
    """What to call on each of several channels.

    Args:
        channels: at least one, all to the same servers; of grpc or grpc.aio.
    """

    def __init__(self, channels: Sequence[grpc.Channel | grpc.aio.Channel]) -> None:
        self._channels = list(channels)
        self._stubs = [GeneratorStub(channel) for channel in channels]  # type: ignore[no-untyped-call]  # generated
        self._turns = itertools.cycle(range(len(self._stubs)))

    def next(self, method: Method) -> Any:
        """The method on the channel whose turn it is."""
        turn = next(self._turns)
        if method == "Check":
            from grpc_health.v1.health_pb2_grpc import HealthStub  # only who asks for health needs it

            return HealthStub(self._channels[turn]).Check
        return getattr(self._stubs[turn], method)
