from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import grpc
import pytest

from client.bench import session
from client.bench.loads import ClosedLoad, Load, OpenLoad
from client.bench.loops import Call, ServerLost
from client.bench.results import OK, Results
from client.bench.session import Measurement, Plan
from client.errors import GanClientError
from client.sdk.channel import endpoint_of
from client.sdk.model_info import models_from
from ganserve.v1 import generator_pb2 as pb
from tests.client.fake_server import FakeServer, model

[SERVED] = models_from(pb.ListModelsResponse(models=[model()]))
LOADS = (ClosedLoad(1, 2), OpenLoad(3, 50, "constant"), ClosedLoad(2, 1))


def results_of(statuses: list[str]) -> Results:
    errors = {status: statuses.count(status) for status in sorted(set(statuses) - {OK})}
    return Results(1, len(statuses), statuses.count(OK), errors, 1, 1, None, None, None, None, None, 0)


@pytest.fixture
def three_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each load is three requests, however long it takes; it ends early if `tick` says so after the first."""

    async def measure(
        _load: Load,
        send: Call,
        *,
        warmup_s: float,
        seconds: float,
        tick: Callable[[float], bool],
    ) -> tuple[Results | None, bool]:
        assert (warmup_s, seconds) == (0.5, 4.0)
        statuses = [await send(0)]
        if tick(0.5):
            return results_of(statuses), False
        statuses += [await send(1), await send(2)]
        if set(statuses) == {"UNAVAILABLE"}:
            raise ServerLost
        return results_of(statuses), True

    monkeypatch.setattr(session, "measure", measure)


def run(server: FakeServer, tick: Callable[[Load, float], bool] | None = None) -> tuple[bool, list[Measurement]]:
    done: list[Measurement] = []
    plan = Plan(SERVED, LOADS, "pixels", warmup_s=0.5, seconds=4.0)
    endpoint = replace(endpoint_of(server.address), retries=False)
    return session.run(plan, endpoint, tick or (lambda _load, _s: False), done.append), done


@pytest.mark.usefixtures("three_requests")
def test_loads_are_measured_in_turn_each_with_its_rows(server: FakeServer) -> None:
    is_complete, done = run(server)
    assert is_complete
    assert [(measurement.load, measurement.is_complete) for measurement in done] == [(load, True) for load in LOADS]
    assert [measurement.results.answered for measurement in done] == [3, 3, 3]
    assert [request.latents.shape[0] for request in server.requests] == [1] * 3 + [3] * 3 + [2] * 3


@pytest.mark.usefixtures("three_requests")
def test_a_run_that_is_stopped_keeps_its_part_and_measures_no_more(server: FakeServer) -> None:
    seen: list[tuple[Load, float]] = []

    def stop_in_the_second(load: Load, passed_s: float) -> bool:
        seen.append((load, passed_s))
        return load == LOADS[1]

    is_complete, done = run(server, stop_in_the_second)
    assert not is_complete
    assert [(measurement.results.requests, measurement.is_complete) for measurement in done] == [(3, True), (1, False)]
    assert seen == [(LOADS[0], 0.5), (LOADS[1], 0.5)]


def test_a_load_that_is_stopped_in_its_warm_up_has_no_results(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def measure(*_: object, **__: object) -> tuple[None, bool]:
        return None, False

    monkeypatch.setattr(session, "measure", measure)
    assert run(server) == (False, [])


@pytest.mark.usefixtures("three_requests")
@pytest.mark.parametrize("status", [grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE])
def test_a_server_that_fails_every_request_or_is_gone_ends_the_run_with_its_first_error(
    server: FakeServer, status: grpc.StatusCode
) -> None:
    server.failures.extend((status, text) for text in ("first", "second", "third"))
    with pytest.raises(GanClientError, match="first"):
        run(server)
    assert len(server.requests) == 3


@pytest.mark.usefixtures("three_requests")
def test_a_server_that_is_always_full_and_one_that_fails_now_and_then_are_results(server: FakeServer) -> None:
    server.failures.extend([(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")] * 3 + [(grpc.StatusCode.INTERNAL, "bug")] * 2)
    is_complete, done = run(server)
    assert is_complete
    assert [measurement.results.errors for measurement in done] == [{"RESOURCE_EXHAUSTED": 3}, {"INTERNAL": 2}, {}]


async def test_an_error_in_the_warm_up_does_not_end_a_load_that_is_then_only_full(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def measure(_load: Load, send: Call, **_: object) -> tuple[Results, bool]:
        assert await send(0) == "INTERNAL"  # in the warm-up
        return results_of([await send(1), await send(2)]), True

    monkeypatch.setattr(session, "measure", measure)
    server.failures.extend([(grpc.StatusCode.INTERNAL, "bug")] + [(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")] * 2)
    done: list[Measurement] = []
    plan = Plan(SERVED, LOADS[:1], "pixels", warmup_s=0.5, seconds=4.0)
    endpoint = replace(endpoint_of(server.address), retries=False)
    assert await session._run(plan, endpoint, lambda _load, _s: False, done.append)
    assert [measurement.results.errors for measurement in done] == [{"RESOURCE_EXHAUSTED": 2}]
