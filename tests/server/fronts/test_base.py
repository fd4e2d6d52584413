"""What every front promises to handlers and clients."""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest

from server.errors import InvalidRequest, QueueFull, ServerError
from server.fronts.base import Call, ClientLeft, Methods, Stream, StreamCall, Unary, messages
from tests.server.behaviours import INTERNAL_MESSAGE
from tests.server.fronts.served import FRONTS, served
from tests.server.scheduling.held_run import settle, until

ECHO, STREAM = "/test.Service/Echo", "/test.Service/Stream"
Serve = Callable[..., Awaitable[Any]]
Status = grpc.StatusCode


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def serve(front: str) -> AsyncIterator[Serve]:
    """Serves methods, and returns a channel to them."""
    async with AsyncExitStack() as opened:

        async def serve_one(methods: Methods, **more: Any) -> Any:
            address = await opened.enter_async_context(served(methods, front, **more))
            options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
            return await opened.enter_async_context(grpc.aio.insecure_channel(address, options))

        yield serve_one


async def echo(body: bytes, _: Call) -> bytes:
    return body


def unary(answer: Callable[[bytes, Call], Any]) -> Methods:
    return {ECHO: Unary(answer)}


async def outcome(call: Any) -> tuple[grpc.StatusCode, str, dict[str, str]]:
    return await call.code(), await call.details(), dict(await call.trailing_metadata() or ())


def failing(error: Exception) -> Callable[[bytes, Call], Awaitable[bytes]]:
    async def fail(_: bytes, __: Call) -> bytes:
        raise error

    return fail


class TestUnary:
    @pytest.mark.parametrize("size", [0, 1, 16 << 20])
    async def test_bytes_are_answered_with_bytes(self, serve: Serve, size: int) -> None:
        channel = await serve(unary(echo), options=[("grpc.max_receive_message_length", -1)])
        assert await channel.unary_unary(ECHO)(bytes(size), timeout=30) == bytes(size)

    async def test_a_call_tells_what_its_client_sent(self, serve: Serve) -> None:
        seen: list[Any] = []

        async def look(body: bytes, call: Call) -> bytes:
            sent = {key: value for key, value in call.invocation_metadata() if key.startswith("x-")}
            seen.append((sent, call.peer().split(":")[0], call.time_remaining()))
            return body

        channel = await serve(unary(look))
        await channel.unary_unary(ECHO)(b"", metadata=[("x-text", "a"), ("x-raw-bin", b"\0\xff")])
        await channel.unary_unary(ECHO)(b"", timeout=60)
        (sent, kind, forever), (_, _, left_s) = seen
        assert (sent, kind, forever) == ({"x-text": "a", "x-raw-bin": b"\0\xff"}, "ipv4", None)
        assert 50 < left_s < 61  # clients of gRPC round up

    @pytest.mark.parametrize(
        ("error", "metadata"),
        [
            (InvalidRequest("größer als 3: send less \N{SNOWMAN}"), {}),
            (QueueFull("full", 250), {"grpc-retry-pushback-ms": "250"}),
        ],
    )
    async def test_an_error_ends_the_call_with_its_status(
        self, serve: Serve, error: ServerError, metadata: dict[str, str]
    ) -> None:
        channel = await serve(unary(failing(error)))
        assert await outcome(channel.unary_unary(ECHO)(b"")) == (error.code, str(error), metadata)

    async def test_an_unexpected_error_is_logged_and_hidden(
        self, serve: Serve, caplog: pytest.LogCaptureFixture
    ) -> None:
        channel = await serve(unary(failing(RuntimeError("secret"))))
        assert await outcome(channel.unary_unary(ECHO)(b"")) == (Status.INTERNAL, INTERNAL_MESSAGE, {})
        assert "secret" in caplog.text

    async def test_an_unknown_method_is_unimplemented(self, serve: Serve) -> None:
        channel = await serve(unary(echo))
        assert await channel.unary_unary("/test.Service/Other")(b"").code() is Status.UNIMPLEMENTED
        assert await channel.unary_unary(ECHO)(b"x") == b"x"

    async def test_a_message_above_the_limit_is_refused(self, serve: Serve) -> None:
        channel = await serve(unary(echo), options=[("grpc.max_receive_message_length", 100)])
        assert await channel.unary_unary(ECHO)(bytes(101), timeout=20).code() is Status.RESOURCE_EXHAUSTED
        assert await channel.unary_unary(ECHO)(bytes(100), timeout=20) == bytes(100)

    async def test_calls_above_the_limit_are_refused(self, serve: Serve) -> None:
        release = asyncio.Event()
        entered: list[None] = []

        async def wait(body: bytes, _: Call) -> bytes:
            entered.append(None)
            await release.wait()
            return body

        channel = await serve(unary(wait), max_calls=2)
        calls = [channel.unary_unary(ECHO)(b"x") for _ in range(2)]
        await until(lambda: len(entered) == 2)
        assert await channel.unary_unary(ECHO)(b"x").code() is Status.RESOURCE_EXHAUSTED
        release.set()
        assert [await call for call in calls] == [b"x", b"x"]

    async def test_a_burst_is_answered(self, serve: Serve) -> None:
        async def turn(body: bytes, _: Call) -> bytes:
            await asyncio.sleep(0)
            return body

        pending = ("grpc.server.max_pending_requests", "grpc.server.max_pending_requests_hard_limit")
        channel = await serve(unary(turn), max_calls=5000, options=[(name, 5000) for name in pending])
        bodies = [str(number).encode() for number in range(2000)]
        assert await asyncio.gather(*(channel.unary_unary(ECHO)(body, timeout=60) for body in bodies)) == bodies


class TestAdmission:
    async def test_a_refusal_comes_before_the_message_is_received(self, serve: Serve) -> None:
        refused: list[str] = []

        def admit(_: Call) -> None:
            raise QueueFull("no room")

        method = Unary(echo, admit, lambda _, error: refused.append(str(error)))
        channel = await serve({ECHO: method})
        call = channel.stream_unary(ECHO)()  # sends nothing
        assert await outcome(call) == (Status.RESOURCE_EXHAUSTED, "no room", {})
        assert refused == ["no room"]

    async def test_an_unexpected_error_is_logged_and_hidden(
        self, serve: Serve, caplog: pytest.LogCaptureFixture
    ) -> None:
        def admit(_: Call) -> None:
            raise RuntimeError("secret")

        channel = await serve({ECHO: Unary(echo, admit)})
        assert await outcome(channel.unary_unary(ECHO)(b"")) == (Status.INTERNAL, INTERNAL_MESSAGE, {})
        assert "secret" in caplog.text

    async def test_a_refusal_counts_as_the_end_of_the_call(self, serve: Serve) -> None:
        ended: list[None] = []

        def admit(call: Call) -> None:
            call.add_done_callback(lambda: ended.append(None))
            raise QueueFull("no room")

        channel = await serve({ECHO: Unary(echo, admit)})
        await channel.unary_unary(ECHO)(b"").code()
        await until(lambda: bool(ended))

    async def test_a_call_whose_client_leaves_before_its_message_is_over(self, serve: Serve) -> None:
        calls: list[str] = []

        def admit(call: Call) -> None:
            calls.append("admitted")
            call.add_done_callback(lambda: calls.append("over"))

        channel = await serve({ECHO: Unary(echo, admit, lambda *_: calls.append("refused"))})
        call = channel.stream_unary(ECHO)()
        await until(lambda: calls == ["admitted"])
        call.cancel()
        await until(lambda: calls == ["admitted", "over"])


class TestCancellation:
    @pytest.mark.parametrize("by", ["client", "deadline"])
    async def test_a_handler_is_cancelled_and_the_call_is_over(self, serve: Serve, by: str) -> None:
        events: list[Any] = []
        over = asyncio.Event()

        async def wait(body: bytes, call: Call) -> bytes:
            call.add_done_callback(over.set)
            events.append("began")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                events.append((call.time_remaining() or 0) < 1)  # the client's clock may be a little ahead
                raise
            return body

        channel = await serve(unary(wait))
        call = channel.unary_unary(ECHO)(b"", timeout=60 if by == "client" else 0.3)
        await until(lambda: events == ["began"])
        if by == "client":
            call.cancel()
        await asyncio.wait_for(over.wait(), 20)
        assert events == ["began", by == "deadline"]

    async def test_a_handler_may_finish_its_work_when_it_is_cancelled(self, serve: Serve) -> None:
        events: list[str] = []

        async def wait(_: bytes, call: Call) -> bytes:
            call.add_done_callback(lambda: events.append("over"))
            events.append("began")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.to_thread(events.append, "cleaned up")
            return b"nobody reads this"

        channel = await serve(unary(wait))
        call = channel.unary_unary(ECHO)(b"")
        await until(lambda: events == ["began"])
        call.cancel()
        await until(lambda: events == ["began", "cleaned up", "over"])

    async def test_a_done_callback_runs_once_the_answer_is_sent(self, serve: Serve) -> None:
        ended: list[None] = []

        async def answer(body: bytes, call: Call) -> bytes:
            call.add_done_callback(lambda: ended.append(None))
            assert not ended
            return body

        channel = await serve(unary(answer))
        assert await channel.unary_unary(ECHO)(b"x") == b"x"
        await until(lambda: ended == [None])


_variable = contextvars.ContextVar("_variable", default="outside")


class TestHandlersAreTasks:
    """Handlers may use all of asyncio."""

    async def test_timeouts_and_groups_of_tasks_work(self, serve: Serve) -> None:
        async def work(body: bytes, _: Call) -> bytes:
            results: list[Any] = []
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(asyncio.sleep(0, number)) for number in (1, 2)]
            results += [task.result() for task in tasks]
            try:
                async with asyncio.timeout(0.01):
                    await asyncio.Event().wait()
            except TimeoutError:
                results.append("timeout")
            results.append(await asyncio.to_thread(len, body))
            results.append(await asyncio.wait_for(asyncio.sleep(0, "waited"), 20))
            return repr(results).encode()

        channel = await serve(unary(work))
        assert await channel.unary_unary(ECHO)(b"xyz", timeout=30) == b"[1, 2, 'timeout', 3, 'waited']"

    async def test_each_call_is_a_task_with_a_context_of_its_own(self, serve: Serve) -> None:
        both = asyncio.Barrier(2)

        async def work(body: bytes, _: Call) -> bytes:
            before, task = _variable.get(), asyncio.current_task()
            _variable.set(body.decode())
            await both.wait()
            assert asyncio.current_task() is task is not None
            return f"{before} {_variable.get()}".encode()

        channel = await serve(unary(work))
        answers = await asyncio.gather(*(channel.unary_unary(ECHO)(body, timeout=30) for body in (b"a", b"b")))
        assert answers == [b"outside a", b"outside b"]
        assert _variable.get() == "outside"


async def echo_all(call: StreamCall) -> None:
    async for message in messages(call):
        await call.write(message)


class TestStreams:
    @pytest.fixture
    async def channel(self, serve: Serve) -> Any:
        return await serve({STREAM: Stream(echo_all)}, options=[("grpc.max_receive_message_length", -1)])

    @pytest.mark.parametrize("size", [0, 10, 1 << 20])
    async def test_messages_are_answered_in_order_until_the_client_is_done(self, channel: Any, size: int) -> None:
        sent = [str(number).encode() + bytes(size) for number in range(20)]
        call = channel.stream_stream(STREAM)(iter(sent), timeout=60)
        assert [message async for message in call] == sent
        assert await call.code() is Status.OK

    async def test_a_client_may_wait_for_each_answer(self, channel: Any) -> None:
        call = channel.stream_stream(STREAM)(timeout=60)
        for number in range(5):
            await call.write(str(number).encode())
            assert await call.read() == str(number).encode()
        await call.done_writing()
        assert await call.read() == grpc.aio.EOF

    async def test_a_stream_may_end_without_a_message(self, channel: Any) -> None:
        call = channel.stream_stream(STREAM)(iter(()), timeout=20)
        assert ([message async for message in call], await call.code()) == ([], Status.OK)

    async def test_a_client_that_does_not_read_makes_writers_wait(self, serve: Serve) -> None:
        written: list[int] = []

        async def flood(call: StreamCall) -> None:
            for number in range(100):
                await call.write(bytes(1 << 20))
                written.append(number)

        channel = await serve({STREAM: Stream(flood)})
        call = channel.stream_stream(STREAM)(iter(()), timeout=60)
        await call.read()
        for _ in range(20):
            await settle()
        assert len(written) < 60
        for _ in range(99):
            assert len(await call.read()) == 1 << 20
        assert await call.code() is Status.OK

    @pytest.mark.parametrize("error", [InvalidRequest("send more"), RuntimeError("secret")])
    @pytest.mark.parametrize("written", [0, 2])
    async def test_an_error_ends_the_stream_with_its_status(
        self, serve: Serve, error: Exception, written: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def fail(call: StreamCall) -> None:
            for _ in range(written):
                await call.write(b"x")
            raise error

        channel = await serve({STREAM: Stream(fail)})
        call = channel.stream_stream(STREAM)(timeout=20)
        assert [await call.read() for _ in range(written)] == [b"x"] * written
        code, details, _ = await outcome(call)
        if isinstance(error, ServerError):
            assert (code, details) == (error.code, str(error))
        else:
            assert (code, details) == (Status.INTERNAL, INTERNAL_MESSAGE)
            assert "secret" in caplog.text

    async def test_a_refusal_needs_no_message(self, serve: Serve) -> None:
        async def refuse(_: StreamCall) -> None:
            raise QueueFull("no room", 5)

        channel = await serve({STREAM: Stream(refuse)})
        call = channel.stream_stream(STREAM)()
        assert await outcome(call) == (Status.RESOURCE_EXHAUSTED, "no room", {"grpc-retry-pushback-ms": "5"})

    async def test_a_client_that_leaves_cancels_the_handler_and_nothing_more_can_be_written(self, serve: Serve) -> None:
        events: list[str] = []

        async def wait(call: StreamCall) -> None:
            call.add_done_callback(lambda: events.append("over"))
            try:
                await call.write(b"hello")
                await asyncio.Event().wait()
            finally:
                try:
                    await call.write(b"too late")
                except (ClientLeft, asyncio.CancelledError):
                    events.append("left")

        channel = await serve({STREAM: Stream(wait)})
        call = channel.stream_stream(STREAM)()
        assert await call.read() == b"hello"
        call.cancel()
        await until(lambda: events == ["left", "over"])

    async def test_a_stream_that_is_cancelled_at_once_is_over(self, serve: Serve) -> None:
        counts = {"began": 0, "over": 0}

        async def wait(call: StreamCall) -> None:
            counts["began"] += 1
            call.add_done_callback(lambda: counts.update(over=counts["over"] + 1))
            await call.read()
            await asyncio.Event().wait()

        channel = await serve({STREAM: Stream(wait), ECHO: Unary(echo)})
        for number in range(100):
            call = channel.stream_stream(STREAM)()
            for _ in range(number % 7):
                await asyncio.sleep(0)
            call.cancel()
        assert await channel.unary_unary(ECHO)(b"x", timeout=20) == b"x"
        await until(lambda: counts["over"] == counts["began"])


class TestStop:
    @pytest.fixture
    async def held(self, front: str) -> AsyncIterator[Any]:
        """A front with a method that waits for `release`."""

        class Held:
            def __init__(self) -> None:
                self.release, self.inside, self.outcomes = asyncio.Event(), 0, list[str]()
                self.front = FRONTS[front]({ECHO: Unary(self.answer)}, (), 100)

            async def answer(self, body: bytes, _: Call) -> bytes:
                self.inside += 1
                try:
                    await self.release.wait()
                except asyncio.CancelledError:
                    self.outcomes.append("cancelled")
                    raise
                self.outcomes.append("answered")
                return body

        held = Held()
        port = held.front.add_port("127.0.0.1:0")
        await held.front.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield held, channel
        await held.front.stop(None)

    async def test_accepted_calls_are_answered_and_others_refused(self, held: Any) -> None:
        server, channel = held
        call = channel.unary_unary(ECHO)(b"x", timeout=60)
        await until(lambda: server.inside == 1)
        stopping = asyncio.create_task(server.front.stop(math.inf))
        await settle()
        assert await channel.unary_unary(ECHO)(b"y", timeout=20).code() in {Status.UNAVAILABLE, Status.CANCELLED}
        assert not stopping.done()
        server.release.set()
        assert await call == b"x"
        await asyncio.wait_for(stopping, 20)
        assert server.outcomes == ["answered"]

    @pytest.mark.parametrize("grace_s", [None, 0.05])
    async def test_calls_are_cancelled_after_the_grace(self, held: Any, grace_s: float | None) -> None:
        server, channel = held
        call = channel.unary_unary(ECHO)(b"x", timeout=60)
        await until(lambda: server.inside == 1)
        await asyncio.wait_for(server.front.stop(grace_s), 20)
        assert server.outcomes == ["cancelled"]
        assert await call.code() in {Status.UNAVAILABLE, Status.CANCELLED}

    async def test_a_second_stop_may_have_less_grace(self, held: Any) -> None:
        server, channel = held
        call = channel.unary_unary(ECHO)(b"x", timeout=60)
        await until(lambda: server.inside == 1)
        stopping = asyncio.create_task(server.front.stop(math.inf))
        await settle()
        await asyncio.wait_for(server.front.stop(None), 20)
        await asyncio.wait_for(stopping, 20)
        assert await call.code() is not Status.OK

    async def test_an_idle_connection_does_not_delay_it(self, held: Any) -> None:
        server, channel = held
        server.release.set()
        assert await channel.unary_unary(ECHO)(b"x", timeout=60) == b"x"
        await asyncio.wait_for(server.front.stop(math.inf), 20)

    async def test_a_front_that_never_started_can_stop(self, front: str) -> None:
        server = FRONTS[front]({}, (), 1)
        server.add_port("127.0.0.1:0")
        await asyncio.wait_for(server.stop(None), 20)


async def test_a_port_that_is_taken_is_an_error(front: str) -> None:
    first, second = (FRONTS[front]({}, [("grpc.so_reuseport", 0)], 1) for _ in range(2))
    port = first.add_port("127.0.0.1:0")
    with pytest.raises(RuntimeError):
        second.add_port(f"127.0.0.1:{port}")
    await first.stop(None)
    await second.stop(None)
