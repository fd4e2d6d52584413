"""Opens gRPC channels, and sets their message sizes, keepalive, retries, load balancing and TLS.

docs/decisions/0018 explains each setting.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, get_args

import grpc

from client.errors import InvalidRequest
from client.sdk.addresses import DEFAULT_ADDRESS, Addresses, Target, target_of
from client.sdk.latents import whole_number
from client.sdk.security import TlsOptions, channel_credentials, checked_token
from client.sdk.steps import ControlMethod, Method
from ganserve.v1.generator_pb2_grpc import GeneratorStub

DEFAULT_TIMEOUT_S: Final = 30.0
MAX_TIMEOUT_S: Final = 86_400.0
MAX_CHANNELS: Final = 64

CONNECT_TIMEOUT_S: Final = 5.0  # for one attempt: several round trips of a slow network, and the handshake of TLS

RETRY_PAUSE_S: Final = 0.1  # before the first retry, then twice as long each time: four retries in about 1.5 s

_OPTIONS: Final[list[tuple[str, str | int]]] = [
    ("grpc.enable_retries", 1),
    # gRPC never retries a request larger than this buffer; its default of 256 KiB is less than a chunk of latents.
    ("grpc.per_rpc_retry_buffer_size", 64 << 20),
    # Images are larger than gRPC's default limit of 4 MiB; a response is bounded by its request.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # The pauses between reconnects grow as well. The longest must be shorter than all retry pauses together, at least
    # 1.2 s, so that a retry reaches a server that has come back.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 800),
    # gRPC also pings to measure the bandwidth. On a slow network the answer waits behind a large response, and the
    # connection would seem dead. With a fixed window it need not measure: 4 MiB allow 40 MB/s at 100 ms round trip.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 4 << 20),
    # No connection of another client in this process, which may be dead, or busy with a large response.
    ("grpc.use_local_subchannel_pool", 1),
]
_SERVICE: Final = "ganserve.v1.Generator"
_HEALTH_SERVICE: Final = "grpc.health.v1.Health"


@dataclass(frozen=True)
class Endpoint:
    """The validated settings for opening channels.

    Attributes:
        target: Where to connect to.
        timeout_s: The deadline of each request, retries included, in seconds.
        channels: The number of connections to each server.
        credentials: For TLS; None for no TLS.
        server_name: The name expected in the server's certificate; None for the host of the address.
        metadata: The gRPC metadata of each request; holds the token.
        retries: Whether to retry requests while the server is unavailable.
    """

    target: Target
    timeout_s: float
    channels: int = 1
    credentials: grpc.ChannelCredentials | None = None
    server_name: str | None = None
    metadata: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    retries: bool = True

    @property
    def pings_after_s(self) -> float:
        """After how many silent seconds a request in flight pings its connection.

        That makes at most three pings per request, or one in five minutes: a server with gRPC's default settings cuts
        off a caller that sends more.
        """
        return min(max(10.0, self.timeout_s / 3), 310.0)

    @property
    def ping_timeout_s(self) -> float:
        """After how many seconds without an answer to a ping its connection is dead.

        On a slow network, a ping waits behind a large request. Who raises the deadline for that needs patience here.
        """
        return min(max(5.0, self.timeout_s / 6), 60.0)

    @property
    def notices_after_s(self) -> float:
        """How long a request in flight takes to notice that its connection is dead, in seconds."""
        return self.pings_after_s + self.ping_timeout_s

    def open(self) -> list[grpc.Channel]:
        """Opens channels, which connect at their first call."""
        if self.credentials is None:
            return [grpc.insecure_channel(self.target.grpc_name, options) for options in self._options()]
        return [grpc.secure_channel(self.target.grpc_name, self.credentials, options) for options in self._options()]

    def open_async(self) -> list[grpc.aio.Channel]:
        """Like `open`, for the running event loop."""
        if self.credentials is None:
            return [grpc.aio.insecure_channel(self.target.grpc_name, options) for options in self._options()]
        return [
            grpc.aio.secure_channel(self.target.grpc_name, self.credentials, options) for options in self._options()
        ]

    def _options(self) -> list[list[tuple[str, str | int]]]:
        config: dict[str, Any] = {}
        if self.retries:  # every call is a pure function of its request, so repeating one is safe
            policy = {
                "maxAttempts": 5,
                "initialBackoff": f"{RETRY_PAUSE_S}s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],  # a call that the caller cancels ends at once
            }
            names = [{"service": _SERVICE}, {"service": _HEALTH_SERVICE, "method": "Check"}]
            config["methodConfig"] = [{"name": names, "retryPolicy": policy}]
        if self.target.is_balanced:
            config["loadBalancingConfig"] = [{"round_robin": {}}]
            if not self.metadata:  # gRPC's own health checks carry no token, so a server may refuse them
                config["healthCheckConfig"] = {"serviceName": ""}
        options = [
            *_OPTIONS,
            # Despite its name, this is how long an attempt to connect may take. It does not delay the next one.
            ("grpc.min_reconnect_backoff_ms", int(1000 * CONNECT_TIMEOUT_S)),
            # A request in flight finds out that a NAT gateway or load balancer forgot its connection, and is sent on a
            # new one. Idle connections are not pinged: servers with gRPC's default settings cut off who does.
            ("grpc.keepalive_time_ms", int(1000 * self.pings_after_s)),
            # grpc.keepalive_timeout_ms does not shorten the minute that gRPC waits for an answer, but sets
            # TCP_USER_TIMEOUT, whose default of 20 s suits uploads that a slow proxy holds up.
            ("grpc.http2.ping_timeout_ms", int(1000 * self.ping_timeout_s)),
            ("grpc.service_config", json.dumps(config)),
        ]
        if not self.target.uses_proxy:
            options.append(("grpc.enable_http_proxy", 0))
        if self.server_name is not None:
            options.append(("grpc.ssl_target_name_override", self.server_name))
        return [options] * self.channels


def endpoint_of(
    address: Addresses = DEFAULT_ADDRESS,
    *,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    channels: int = 1,
    tls: TlsOptions | None = None,
    token: str | None = None,
) -> Endpoint:
    """Validates the options of a connection, and reads the files that they name.

    Raises:
        InvalidRequest: An argument is out of range; the message names it.
    """
    checked_timeout_s(timeout_s)
    target = target_of(address)
    metadata: tuple[tuple[str, str], ...] = ()
    if token is not None:
        metadata = (("authorization", f"Bearer {checked_token(token, target, is_encrypted=tls is not None)}"),)
    return Endpoint(
        target,
        timeout_s,
        whole_number("channels", channels, 1, MAX_CHANNELS),
        None if tls is None else channel_credentials(tls, target),
        None if tls is None else tls.server_name,
        metadata,
    )


def checked_timeout_s(timeout_s: float) -> float:
    """Returns `timeout_s` if it is a deadline, in seconds.

    Raises:
        InvalidRequest: It is out of range.
    """
    if not 0 < timeout_s <= MAX_TIMEOUT_S:
        raise InvalidRequest(f"timeout_s: must be more than 0 and at most {MAX_TIMEOUT_S:g}, not {timeout_s!r:.60}")
    return timeout_s


def is_any_ready(channels: Sequence[grpc.aio.Channel]) -> bool:
    """Whether one of these channels is connected."""
    return any(channel.get_state() is grpc.ChannelConnectivity.READY for channel in channels)


class Stubs:
    """The RPC methods of several channels, used in turn.

    Args:
        channels: At least one, of grpc or grpc.aio, all to the same servers.
    """

    def __init__(self, channels: Sequence[grpc.Channel | grpc.aio.Channel]) -> None:
        self._channels = list(channels)
        self._stubs = [GeneratorStub(channel) for channel in channels]  # type: ignore[no-untyped-call]  # generated
        self._turns = itertools.cycle(range(len(self._stubs)))

    def next(self, method: Method) -> Any:
        """The method on the channel whose turn it is."""
        turn = next(self._turns)
        if method == "Check":
            from grpc_health.v1.health_pb2_grpc import HealthStub  # needed for health checks only

            return HealthStub(self._channels[turn]).Check
        if method in get_args(ControlMethod):
            from ganserve.v1.model_control_pb2_grpc import ModelControlStub  # needed for few commands only

            return getattr(ModelControlStub(self._channels[turn]), method)  # type: ignore[no-untyped-call]  # generated
        return getattr(self._stubs[turn], method)
