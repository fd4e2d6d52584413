"""Tests for server.ray_serve.replica, with a stand-in for Ray's context: what callers and Ray get."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from ganserve.v1 import generator_pb2 as pb
from server.config import ServerConfig
from server.errors import NotServed, QueueFull, StartupError
from server.ray_serve.load import BUSY, ROWS_WAITING
from server.ray_serve.methods import PATHS
from server.ray_serve.replica import Replica
from server.ray_serve.timed_context import TIMEOUT_KEY
from server.scheduling.batcher import Batcher
from tests.server.tiny_bundles import publish_tiny_bundle


@dataclass
class FakeContext:
    """Stands in for `ray.serve.grpc_util.RayServegRPCContext`."""

    sent: Sequence[tuple[str, str]] = ()
    code: grpc.StatusCode | None = None
    details: str = ""
    trailing: Sequence[tuple[str, str]] = field(default_factory=list)

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        return self.sent

    def peer(self) -> str:
        return "ipv4:127.0.0.1:5"

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        self.details = details

    def set_trailing_metadata(self, trailing_metadata: Sequence[tuple[str, str]]) -> None:
        assert isinstance(trailing_metadata, list)  # Ray adds it to a list
        self.trailing = trailing_metadata


MakeReplica = Callable[..., Replica]


@pytest.fixture
async def make_replica(config: ServerConfig) -> AsyncIterator[MakeReplica]:
    """Makes replicas with changes to `config`; closes them at the end."""
    replicas: list[Replica] = []

    def make(**changes: Any) -> Replica:
        replicas.append(Replica(replace(config, **changes)))
        return replicas[-1]

    yield make
    for made in replicas:
        await made.close()


@pytest.fixture
async def replica(make_replica: MakeReplica) -> Replica:
    """A replica that Ray has started."""
    made = make_replica()
    await made.reconfigure({})
    await made.check_health()
    return made


def seeded(rows: int = 2, model: str = "tiny", version: int = 0) -> bytes:
    latents = pb.SeededLatents(seed=7, count=rows)
    return pb.GenerateRequest(model=model, version=version, seeded=latents).SerializeToString()


async def ask(replica: Replica, body: bytes, context: FakeContext | None = None, method: str = "Generate") -> bytes:
    answer = await getattr(replica, method)(body, grpc_context=context or FakeContext())
    body = answer.SerializeToString()
    assert isinstance(body, bytes)
    return body


async def test_bytes_in_give_bytes_out(replica: Replica) -> None:
    context = FakeContext()
    response = pb.GenerateResponse.FromString(await ask(replica, seeded(3), context))
    assert response.images.shape[0] == 3
    assert context.code is None


@pytest.mark.parametrize("method", PATHS)
def test_ray_finds_every_method_and_its_context(method: str) -> None:
    assert "grpc_context" in inspect.signature(getattr(Replica, method)).parameters


async def test_an_answer_no_longer_counts_once_ray_has_it(replica: Replica) -> None:
    await ask(replica, seeded())
    assert replica.core.gate.inside == 0
    assert replica.core.metrics.registry.get_sample_value("ganserve_unsent_bytes") == 0


@pytest.mark.parametrize(
    ("method", "body", "code", "text"),
    [
        ("Generate", seeded(model="other"), grpc.StatusCode.NOT_FOUND, "other"),
        ("Generate", b"\xff\xff", grpc.StatusCode.INVALID_ARGUMENT, "GenerateRequest"),
        ("SystemSharedMemoryStatus", b"", grpc.StatusCode.UNIMPLEMENTED, "SystemSharedMemoryStatus"),
    ],
)
async def test_a_refusal_is_a_status_of_the_context(
    replica: Replica, method: str, body: bytes, code: grpc.StatusCode, text: str
) -> None:
    context = FakeContext()
    assert await ask(replica, body, context, method) == b""
    assert context.code is code
    assert text in context.details
    assert replica.core.gate.inside == 0


async def test_a_full_queue_tells_when_to_retry(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise QueueFull("full", 250)

    monkeypatch.setattr(Batcher, "submit", refuse)
    context = FakeContext()
    assert not await ask(replica, seeded(), context)
    assert (context.code, context.details) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
    assert context.trailing == [("grpc-retry-pushback-ms", "250")]


async def test_the_deadline_that_the_proxy_tells_is_kept(replica: Replica) -> None:
    context = FakeContext(((TIMEOUT_KEY, "0"),))
    await ask(replica, seeded(), context)
    assert context.code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_tokens_are_checked(make_replica: MakeReplica, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("0123456789abcdef0123456789abcdef\n")
    replica = make_replica(token_file=tmp_path / "tokens")
    await replica.reconfigure({})
    without, with_token = FakeContext(), FakeContext((("authorization", "Bearer 0123456789abcdef0123456789abcdef"),))
    assert not await ask(replica, seeded(), without)
    assert without.code is grpc.StatusCode.UNAUTHENTICATED
    assert await ask(replica, seeded(), with_token)


async def test_probes_get_the_health(replica: Replica) -> None:
    answer = await ask(replica, health_pb2.HealthCheckRequest().SerializeToString(), method="Check")
    assert health_pb2.HealthCheckResponse.FromString(answer).status == health_pb2.HealthCheckResponse.SERVING


async def test_ray_learns_that_a_model_is_being_rebuilt(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(replica.core.catalog["tiny"]), "ready", property(lambda _: False))
    with pytest.raises(RuntimeError, match="tiny"):
        await replica.check_health()


async def test_ray_learns_that_a_replica_has_stopped(replica: Replica) -> None:
    await replica.core.drain()
    with pytest.raises(RuntimeError, match="draining"):
        await replica.check_health()


async def test_without_a_model_a_replica_does_not_start(make_replica: MakeReplica, tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="--models"):
        await make_replica(models=tmp_path / "nothing").check_health()


async def version_of(replica: Replica) -> int:
    return int(pb.GenerateResponse.FromString(await ask(replica, seeded())).version)


async def test_an_update_chooses_versions_and_an_empty_one_the_newest(replica: Replica, repository: Path) -> None:
    publish_tiny_bundle(repository, version=2, seed=1)
    await replica.reconfigure({"versions": {"tiny": 1}})
    assert await version_of(replica) == 1
    await replica.reconfigure({"versions": {"tiny": 2}})
    assert await version_of(replica) == 2
    await replica.reconfigure({"versions": {"tiny": 1}})
    assert await version_of(replica) == 1
    await replica.reconfigure({})
    assert await version_of(replica) == 2


async def test_a_new_replica_serves_the_versions_of_the_others(make_replica: MakeReplica, repository: Path) -> None:
    publish_tiny_bundle(repository, version=2, seed=1)
    replica = make_replica()
    await replica.reconfigure({"versions": {"tiny": 1}})
    assert await version_of(replica) == 1


async def test_a_version_that_is_not_there_fails_the_update_and_the_old_one_serves_on(replica: Replica) -> None:
    with pytest.raises(NotServed, match="version 9"):
        await replica.reconfigure({"versions": {"tiny": 9}})
    assert await version_of(replica) == 1


async def test_a_newest_version_that_is_broken_does_not_fail_an_update(replica: Replica, repository: Path) -> None:
    publish_tiny_bundle(repository, version=2, seed=1)
    (repository / "tiny" / "2" / "model.onnx").write_bytes(b"broken")
    await replica.reconfigure({})
    assert await version_of(replica) == 1


@pytest.mark.parametrize(
    "user_config",
    [
        {"version": {}},
        {"versions": ["tiny"]},
        {"versions": {"tiny": "1"}},
        {"versions": {"tiny": True}},
        {"versions": {"tiny": 0}},
    ],
)
async def test_another_form_of_update_is_refused(replica: Replica, user_config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="user_config"):
        await replica.reconfigure(user_config)


async def test_the_load_is_reported(replica: Replica) -> None:
    await ask(replica, seeded(64))
    report = replica.record_autoscaling_stats()
    assert report[ROWS_WAITING] == 0
    assert 0 <= report[BUSY] <= 1
