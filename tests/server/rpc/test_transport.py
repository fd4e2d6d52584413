"""What the gRPC server accepts of its clients and their connections, and where it listens."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from server.config import MAX_SOCKET_PATH_BYTES, Address, ServerConfig
from server.errors import StartupError
from server.fronts.base import Call, Front, Unary
from server.rpc import transport
from server.rpc.transport import bind, make_server
from tests.server.fronts.served import FRONTS
from tests.server.raw_http2 import RawHttp2Client
from tests.server.scheduling.held_run import until

ECHO = "/test.Service/Echo"
LOOPBACK = Address("127.0.0.1", 0)
Serve = Callable[..., Any]


class Service:
    """A method that answers once `release` is set."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.inside = 0

    async def echo(self, body: bytes, _: Call) -> bytes:
        self.inside += 1
        try:
            await self.release.wait()
        finally:
            self.inside -= 1
        return body


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
async def serve(service: Service, front: str) -> AsyncIterator[Serve]:
    """Serves `service` with changes to the config, and returns the address; stops at the end."""
    servers: list[Front] = []

    async def serve_one(address: Address = LOOPBACK, **changes: Any) -> Address:
        server = make_server(FRONTS[front], replace(ServerConfig(), **changes), {ECHO: Unary(service.echo)})
        servers.append(server)
        bound = replace(address, port=bind(server, address))
        await server.start()
        return bound

    yield serve_one
    for server in servers:
        await server.stop(None)


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., Any]]:
    """Opens channels that share no connection; closes them at the end."""
    channels: list[grpc.aio.Channel] = []

    def open_one(address: Address, *options: tuple[str, int]) -> Any:
        local = ("grpc.use_local_subchannel_pool", 1)
        channels.append(grpc.aio.insecure_channel(str(address), options=[local, *options]))
        return channels[-1]

    yield open_one
    for channel in channels:
        await channel.close()


@pytest.mark.parametrize(
    ("changes", "alone"), [({}, True), ({"http_address": LOOPBACK}, False), ({"admin_address": LOOPBACK}, False)]
)
def test_a_front_beside_another_host_knows_that_it_is_not_alone(changes: dict[str, Any], alone: bool) -> None:
    given: dict[str, Any] = {}

    def make_front(*_: Any, **how: Any) -> Any:
        given.update(how)

    make_server(make_front, ServerConfig(**changes), {})
    assert given == {"alone": alone}


async def test_an_address_in_use_is_named_with_the_reason(serve: Serve, front: str) -> None:
    address = await serve()
    second = make_server(FRONTS[front], ServerConfig(), {})
    with pytest.raises(StartupError, match=f"^--address: cannot listen on {address} .*in use"):
        bind(second, address)
    await second.stop(None)


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EADDRINUSE, "in use); stop the program that listens there, or give another address"),
        (errno.EADDRNOTAVAIL, "address); give an address of this machine, or 0.0.0.0 for all of them"),
        (errno.EACCES, "denied); give a port above 1023 or a writable folder, or run as another user"),
        (errno.ENOENT, "directory); create the folder of the socket, or give another one"),
    ],
)
def test_the_remedy_depends_on_why_it_cannot_listen(number: int, remedy: str) -> None:
    error = OSError(number, "while attempting to bind on address ('::1', 1)")
    text = str(transport.cannot_listen("--address", Address("::1", 1), error))
    assert text.startswith("--address: cannot listen on [::1]:1 (")
    assert text.endswith(remedy)
    assert "attempting" not in text


class TestPings:
    async def test_clients_may_ping_all_the_time_without_calls(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(transport, "MIN_PING_INTERVAL_MS", 20)
        address = await serve()
        client = await asyncio.to_thread(RawHttp2Client, address.host, address.port)
        for _ in range(8):
            await asyncio.to_thread(client.ping)
            await asyncio.sleep(0.03)  # longer is fine
        client.close()

    async def test_a_client_that_pings_too_often_is_cut_off(self, serve: Serve) -> None:
        address = await serve()
        client = await asyncio.to_thread(RawHttp2Client, address.host, address.port)

        def ping_without_a_pause() -> None:
            for _ in range(100):
                client.ping()

        with pytest.raises(ConnectionError, match="too_many_pings"):
            await asyncio.to_thread(ping_without_a_pause)
        client.close()

    def test_pings_every_ten_seconds_are_within_the_interval(self) -> None:
        assert transport.MIN_PING_INTERVAL_MS <= 10_000 / 2  # timers and networks are not exact

    async def test_the_calls_of_a_client_that_no_longer_answers_are_cancelled(
        self, serve: Serve, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(transport, "KEEPALIVE_INTERVAL_MS", 100)
        monkeypatch.setattr(transport, "KEEPALIVE_TIMEOUT_MS", 100)
        address = await serve()
        client = await asyncio.to_thread(RawHttp2Client, address.host, address.port)
        client.call(ECHO, b"x")
        await until(lambda: service.inside == 1)
        for _ in range(2000):
            if not service.inside:
                break
            await asyncio.sleep(0.01)
        assert service.inside == 0
        client.close()


class TestConnections:
    async def test_more_connections_than_the_limit_are_closed(self, serve: Serve) -> None:
        address = await serve(max_connections=3)
        clients = [await asyncio.to_thread(RawHttp2Client, address.host, address.port) for _ in range(3)]
        for client in clients:
            await asyncio.to_thread(client.ping)

        def one_more() -> None:
            client = RawHttp2Client(address.host, address.port)
            try:
                client.ping()
            finally:
                client.close()

        with pytest.raises(OSError, match=r"closed the connection|reset by peer|Broken pipe"):
            await asyncio.to_thread(one_more)
        clients.pop().close()
        for _ in range(200):  # until the server has noticed
            try:
                await asyncio.to_thread(one_more)
            except OSError:
                await asyncio.sleep(0.01)
            else:
                break
        else:
            raise AssertionError("a place that became free is not given to the next client")
        for client in clients:
            client.close()

    async def test_a_connection_has_a_share_of_the_calls_and_its_client_waits(
        self, serve: Serve, service: Service, connect: Callable[..., Any]
    ) -> None:
        address = await serve(max_concurrent_requests_per_connection=2)
        calls = [connect(address).unary_unary(ECHO)(b"other")]
        await until(lambda: service.inside == 1)
        channel = connect(address)
        await channel.channel_ready()
        calls += [channel.unary_unary(ECHO)(b"x", timeout=60) for _ in range(2)]
        await until(lambda: service.inside == 3)
        waiting = [channel.unary_unary(ECHO)(b"x", timeout=60) for _ in range(4)]
        await asyncio.sleep(0.05)  # longer would change nothing
        assert service.inside == 3
        for call in waiting:
            call.cancel()
        service.release.set()
        assert [await call for call in calls] == [b"other", b"x", b"x"]

    async def test_an_idle_connection_is_closed_and_the_next_call_opens_one(
        self, serve: Serve, service: Service, connect: Callable[..., Any]
    ) -> None:
        service.release.set()
        channel = connect(await serve(max_connection_idle_s=0.1))
        assert await channel.unary_unary(ECHO)(b"x", timeout=20) == b"x"
        await asyncio.wait_for(channel.wait_for_state_change(grpc.ChannelConnectivity.READY), 20)
        assert await channel.unary_unary(ECHO)(b"y", timeout=20) == b"y"

    async def test_an_old_connection_finishes_its_requests_and_the_next_call_opens_one(
        self, serve: Serve, service: Service, connect: Callable[..., Any]
    ) -> None:
        channel = connect(await serve(max_connection_age_s=0.2))
        call = channel.unary_unary(ECHO)(b"x", timeout=60)
        await until(lambda: service.inside == 1)
        await asyncio.wait_for(channel.wait_for_state_change(grpc.ChannelConnectivity.READY), 20)
        another = channel.unary_unary(ECHO)(b"y", timeout=60)
        await until(lambda: service.inside == 2)
        service.release.set()
        assert [await call, await another] == [b"x", b"y"]

    async def test_the_grace_cuts_off_the_requests_of_an_old_connection(
        self, serve: Serve, service: Service, connect: Callable[..., Any]
    ) -> None:
        channel = connect(await serve(max_connection_age_s=0.1, max_connection_age_grace_s=0.1))
        with pytest.raises(grpc.aio.AioRpcError) as cut_off:
            await channel.unary_unary(ECHO)(b"x", timeout=60)
        assert cut_off.value.code() is grpc.StatusCode.UNAVAILABLE
        await until(lambda: service.inside == 0)


class TestCompression:
    BODY = b"abc" * 10_000

    @pytest.mark.parametrize("compression", [False, True])
    async def test_answers_are_compressed_for_clients_that_read_it(
        self, serve: Serve, service: Service, connect: Callable[..., Any], compression: bool
    ) -> None:
        service.release.set()
        address = await serve(grpc_compression=compression)
        raw = connect(address, ("grpc.per_message_decompression", 0))
        assert (len(await raw.unary_unary(ECHO)(self.BODY)) < len(self.BODY) / 10) is compression
        assert await connect(address).unary_unary(ECHO)(self.BODY) == self.BODY
        identity_only = connect(address, ("grpc.compression_enabled_algorithms_bitset", 1))
        assert await identity_only.unary_unary(ECHO)(self.BODY) == self.BODY


def is_file(path: Path) -> bool:
    return path.is_file()


def is_socket(path: str) -> bool:
    return Path(path).is_socket()


class TestUnixSockets:
    @pytest.fixture
    def address(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Address:
        monkeypatch.chdir(tmp_path)  # the whole path may be too long for a socket
        return Address.parse("unix:it.sock")

    @pytest.fixture
    def precious(self, address: Address) -> Path:
        path = Path(address.path)
        path.write_text("precious")
        return path

    async def test_calls_are_answered_and_the_file_is_gone_at_the_end(
        self, serve: Serve, service: Service, connect: Callable[..., Any], address: Address, front: str
    ) -> None:
        service.release.set()
        assert await serve(address) == address
        assert await connect(address).unary_unary(ECHO)(b"x", timeout=20) == b"x"
        server = make_server(FRONTS[front], ServerConfig(), {})
        bind(server, Address.parse("unix:other.sock"))
        await server.start()
        assert is_socket("other.sock")
        await server.stop(None)
        assert not is_socket("other.sock")

    async def test_the_file_of_a_server_that_crashed_is_replaced(
        self, serve: Serve, service: Service, connect: Callable[..., Any], address: Address
    ) -> None:
        with socket.socket(socket.AF_UNIX) as crashed:
            crashed.bind(address.path)
            crashed.listen()
        service.release.set()
        await serve(address)
        assert await connect(address).unary_unary(ECHO)(b"x", timeout=20) == b"x"

    async def test_the_socket_of_a_running_server_is_not_taken(
        self, serve: Serve, service: Service, connect: Callable[..., Any], address: Address
    ) -> None:
        service.release.set()
        await serve(address)
        with pytest.raises(StartupError, match=r"^--address: cannot listen on unix:it.sock \(Address already in use\)"):
            await serve(address)
        assert await connect(address).unary_unary(ECHO)(b"x", timeout=20) == b"x"

    async def test_a_file_that_is_no_socket_is_kept(self, serve: Serve, address: Address, precious: Path) -> None:
        with pytest.raises(StartupError, match="it exists and is not a socket"):
            await serve(address)
        assert is_file(precious)

    async def test_a_missing_folder_is_named(self, serve: Serve) -> None:
        with pytest.raises(StartupError, match=r"cannot listen on unix:nowhere/it.sock \(No such file or directory\)"):
            await serve(Address.parse("unix:nowhere/it.sock"))

    async def test_a_path_of_the_longest_length_works(self, serve: Serve, address: Address) -> None:
        longest = "x" * MAX_SOCKET_PATH_BYTES
        await serve(Address.parse(f"unix:{longest}"))
        assert is_socket(longest)
