"""Everything at once: is any answer lost, wrong or late without an end?

    python -m benchmarks.chaos [--requests 50000] [--callers 64]

Callers of both protocols send requests: good ones of several sizes, with and without short deadlines, malformed ones,
and some that they cancel; others connect and hang up in the middle of a message. Two servers share one repository, and
callers balance over both. Meanwhile versions of the model are replaced, and half-way one server is restarted. Callers
retry UNAVAILABLE and CANCELLED, as `GanClient` does. Every image is compared with the one that ONNX Runtime computes in
this process, for the version that the answer names.

An answer is lost if a good request ends with another status than OK or one that it asked for, wrong if pixels or the
status of a malformed request differ, and hung if nothing arrives within a minute.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import socket
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click
import grpc
import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from benchmarks.peers.catalogue import free_ports
from benchmarks.report import report
from benchmarks.rolling_restart import Replica
from benchmarks.serving import publish_untrained
from ganserve.bundle import ONNX_FILE, OUTPUT_PIXELS, Card, read_card, version_folder
from ganserve.v1 import generator_pb2 as pb

_MODEL: Final = "gan"
_PRESET: Final = "gan-digits"
_VERSIONS: Final = 3  # published before the start, and served in turn
_SWAP_PAUSE_S: Final = 0.5
_MAX_ROWS: Final = 40
_HUNG_S: Final = 60.0
_RETRY_POLICY: Final = {
    "maxAttempts": 5,
    "initialBackoff": "0.1s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
}
_CHANNEL: Final = [
    ("grpc.service_config", json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": _RETRY_POLICY}]})),
    ("grpc.enable_retries", 1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
]
Status = grpc.StatusCode
Answer = tuple[grpc.StatusCode, int, bytes, str]  # status, version, pixels, details
Spoil = Callable[[Any], None]


def _no_model(request: Any) -> None:
    setattr(request, "model" if isinstance(request, pb.GenerateRequest) else "model_name", "unknown")


def _short_data(request: Any) -> None:
    if isinstance(request, pb.GenerateRequest):
        request.latents.data = request.latents.data[:-1]
    else:
        request.raw_input_contents[0] = request.raw_input_contents[0][:-1]


def _wrong_shape(request: Any) -> None:
    (request.latents if isinstance(request, pb.GenerateRequest) else request.inputs[0]).shape.append(1)


def _not_finite(request: Any) -> None:
    nan = np.array([np.nan], "<f4").tobytes()
    if isinstance(request, pb.GenerateRequest):
        request.latents.data = nan + request.latents.data[4:]
    else:
        request.raw_input_contents[0] = nan + request.raw_input_contents[0][4:]


_SPOILERS: Final[list[tuple[Spoil | None, grpc.StatusCode]]] = [
    (_no_model, Status.NOT_FOUND),
    (_short_data, Status.INVALID_ARGUMENT),
    (_wrong_shape, Status.INVALID_ARGUMENT),
    (_not_finite, Status.INVALID_ARGUMENT),
    (None, Status.INVALID_ARGUMENT),  # bytes that are no message
]


@dataclass
class Tally:
    """What became of the requests."""

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def fault(self, kind: str, text: str) -> None:
        """Counts a request that went wrong."""
        self.outcomes[kind] += 1
        if len(self.faults) < 20:
            self.faults.append(f"{kind}: {text}")


class Chaos:
    """The callers.

    Args:
        target: the addresses of the servers, for gRPC.
        expected: the ONNX sessions of the versions.
        card: the card of one version; the others have the same form.
        tally: counts outcomes.
        requests: how many requests to send in all.
    """

    def __init__(
        self, target: str, expected: dict[int, onnxruntime.InferenceSession], card: Card, tally: Tally, requests: int
    ) -> None:
        options = [*_CHANNEL, ("grpc.lb_policy_name", "round_robin")]
        self._channels = [grpc.aio.insecure_channel(target, options) for _ in range(4)]
        self._expected, self._card, self._tally = expected, card, tally
        self.left = requests
        self.half_way = asyncio.Event()
        self._half = requests // 2

    async def close(self) -> None:
        """Closes the connections."""
        for channel in self._channels:
            await channel.close()

    async def caller(self, number: int) -> None:
        """Sends requests one after the other until all are sent."""
        chance, numbers = random.Random(number), np.random.default_rng(number)
        channel = self._channels[number % len(self._channels)]
        while self.left > 0:
            self.left -= 1
            if self.left <= self._half:
                self.half_way.set()
            shape = (chance.randint(1, _MAX_ROWS), self._card.input.row_shape[0])
            latents = numbers.standard_normal(shape, dtype=np.float32)
            generates = chance.random() < 0.5
            request = _generate(latents) if generates else _infer(latents)
            lot = chance.random()
            if lot < 0.3:
                await self._malformed(channel, request, *chance.choice(_SPOILERS), numbers)
            elif lot < 0.4:
                await self._cancelled(channel, request, chance.uniform(0, 0.02))
            else:
                deadline_s = 10 ** chance.uniform(-3, 0) if lot < 0.55 else None
                await self._good(channel, request, latents, deadline_s)

    async def vandal(self, servers: list[Replica]) -> None:
        """Connects and hangs up in the middle of a message, again and again."""
        chance = random.Random(-1)
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
        while self.left > 0:
            try:
                _, writer = await asyncio.open_connection(*chance.choice(servers).address.split(":"))
            except OSError:  # this server is being restarted
                await asyncio.sleep(0.1)
                continue
            writer.write(preface[: chance.randint(0, len(preface))] + chance.randbytes(chance.randint(0, 200)))
            linger = struct.pack("ii", 1, 0)  # a reset instead of an orderly end
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            await asyncio.sleep(chance.uniform(0, 0.02))
            writer.close()
            self._tally.outcomes["hung up"] += 1

    async def _good(self, channel: Any, request: Any, latents: NDArray[np.float32], deadline_s: float | None) -> None:
        began = time.monotonic()
        status, version, data, details = await self._ask(channel, request, deadline_s)
        took_s = time.monotonic() - began
        if status is Status.OK:
            (pixels,) = self._expected[version].run([OUTPUT_PIXELS], {self._card.input.name: latents})
            answered = np.frombuffer(data, np.uint8)
            same = answered.size == pixels.size and np.abs(answered.astype(int) - pixels.ravel()).max() <= 1
            if same:
                self._tally.outcomes["answered"] += 1
            else:
                self._tally.fault("wrong", f"pixels of version {version}")
        elif deadline_s is not None and status is Status.DEADLINE_EXCEEDED:
            self._tally.outcomes["late, as its deadline was short"] += 1
        elif deadline_s is not None and status is Status.RESOURCE_EXHAUSTED:
            self._tally.outcomes["refused, as its deadline was short"] += 1
        else:
            self._tally.fault("lost", f"{status.name} after {took_s:.2f} s (deadline {deadline_s}): {details}")

    async def _malformed(
        self, channel: Any, request: Any, spoil: Spoil | None, status: grpc.StatusCode, numbers: np.random.Generator
    ) -> None:
        body: bytes | None = None
        if spoil is None:
            body = b"\xff" + numbers.bytes(int(numbers.integers(0, 300)))
        else:
            spoil(request)
        answered, _, _, details = await self._ask(channel, request, None, body)
        if answered is status:
            self._tally.outcomes["malformed and refused"] += 1
        else:
            kind = "hung" if answered is Status.DEADLINE_EXCEEDED else "wrong"
            self._tally.fault(kind, f"{answered.name} instead of {status.name}: {details}")

    async def _cancelled(self, channel: Any, request: Any, after_s: float) -> None:
        call = _method(channel, request)(request.SerializeToString(), timeout=_HUNG_S)
        await asyncio.sleep(after_s)
        call.cancel()
        await asyncio.wait([asyncio.ensure_future(call.code())])
        self._tally.outcomes["cancelled"] += 1

    async def _ask(self, channel: Any, request: Any, deadline_s: float | None, body: bytes | None = None) -> Answer:
        sent = request.SerializeToString() if body is None else body
        try:
            answer = await _method(channel, request)(sent, timeout=deadline_s or _HUNG_S)
        except grpc.aio.AioRpcError as error:
            return error.code(), 0, b"", error.details() or ""
        if isinstance(request, pb.GenerateRequest):
            message = pb.GenerateResponse.FromString(answer)
            return Status.OK, message.version, message.images.data, ""
        reply = service_pb2.ModelInferResponse.FromString(answer)
        return Status.OK, int(reply.model_version), reply.raw_output_contents[0], ""


def _method(channel: Any, request: Any) -> Any:
    if isinstance(request, pb.GenerateRequest):
        return channel.unary_unary("/ganserve.v1.Generator/Generate")
    return channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")


def _generate(latents: NDArray[np.float32]) -> pb.GenerateRequest:
    tensor = pb.Tensor(dtype=pb.DATA_TYPE_FLOAT32, shape=latents.shape, data=latents.tobytes())
    return pb.GenerateRequest(model=_MODEL, latents=tensor)


def _infer(latents: NDArray[np.float32]) -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(model_name=_MODEL, raw_input_contents=[latents.tobytes()])
    request.inputs.add(name="latents", datatype="FP32", shape=latents.shape)
    request.outputs.add(name=OUTPUT_PIXELS)
    return request


async def swap_versions(servers: list[Replica], repository: Path, shelf: Path, chaos: Chaos, tally: Tally) -> None:
    """Takes the newest versions out of the repository and puts them back, and loads the model each time."""
    channels = [grpc.aio.insecure_channel(server.address) for server in servers]
    load = service_pb2.RepositoryModelLoadRequest(model_name=_MODEL).SerializeToString()
    shown = _VERSIONS
    direction = -1
    while chaos.left > 0:
        await asyncio.sleep(_SWAP_PAUSE_S)
        if direction < 0:
            shutil.move(version_folder(repository, _MODEL, shown), shelf / str(shown))
        else:
            shutil.move(shelf / str(shown + 1), version_folder(repository, _MODEL, shown + 1))
        shown += direction
        if shown in (1, _VERSIONS):
            direction = -direction
        for channel in channels:
            method: Any = channel.unary_unary("/inference.GRPCInferenceService/RepositoryModelLoad")
            try:
                await method(load, timeout=_HUNG_S)
                tally.outcomes["version swaps"] += 1
            except grpc.aio.AioRpcError as error:
                if error.code() not in (Status.UNAVAILABLE, Status.CANCELLED):  # this server is being restarted
                    tally.fault("failed swaps", f"{error.code().name}: {error.details()}")
    for channel in channels:
        await channel.close()


async def restart_half_way(servers: list[Replica], chaos: Chaos, tally: Tally) -> None:
    """Restarts one server once half of the requests are sent."""
    await chaos.half_way.wait()
    code, _ = await asyncio.to_thread(servers[1].restart, 0.0)
    tally.outcomes["restarts"] += 1
    if code:
        tally.fault("exit codes", f"the restarted server ended with {code}")


async def run(servers: list[Replica], repository: Path, shelf: Path, requests: int, callers: int) -> Tally:
    """Sends all requests; returns what became of them."""
    folders = {version: version_folder(repository, _MODEL, version) for version in range(1, _VERSIONS + 1)}
    expected = {
        version: onnxruntime.InferenceSession(folder / ONNX_FILE, providers=["CPUExecutionProvider"])
        for version, folder in folders.items()
    }
    tally = Tally()
    target = "ipv4:" + ",".join(server.address for server in servers)
    chaos = Chaos(target, expected, read_card(folders[1]), tally, requests)
    async with asyncio.TaskGroup() as tasks:
        for number in range(callers):
            tasks.create_task(chaos.caller(number))
        tasks.create_task(chaos.vandal(servers))
        tasks.create_task(swap_versions(servers, repository, shelf, chaos, tally))
        tasks.create_task(restart_half_way(servers, chaos, tally))
    await chaos.close()
    return tally


@click.command()
@click.option("--requests", type=click.IntRange(100), default=50_000, show_default=True)
@click.option("--callers", type=click.IntRange(1, 1000), default=64, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="JSON file to write.")
def main(requests: int, callers: int, out: Path | None) -> None:
    """Sends good, bad, hurried and cancelled requests during swaps and a restart."""
    with tempfile.TemporaryDirectory() as folder:
        repository, shelf = Path(folder, "models"), Path(folder, "shelf")
        shelf.mkdir()
        for version in range(1, _VERSIONS + 1):
            torch.manual_seed(version)
            publish_untrained(repository, _MODEL, _PRESET)
        flags = ("--model-control", "explicit", "--log-level", "warning")
        ports = free_ports(4)
        servers = [Replica(repository, ports[index], ports[index + 2], flags) for index in range(2)]
        try:
            began = time.monotonic()
            tally = asyncio.run(run(servers, repository, shelf, requests, callers))
            took_s = time.monotonic() - began
        finally:
            codes = [server.stop() for server in servers]
    for code in codes:
        if code:
            tally.fault("exit codes", f"a server ended with {code}")
    rows = [{"outcome": outcome, "count": count} for outcome, count in tally.outcomes.most_common()]
    report(f"{requests} requests of {callers} callers in {took_s:.0f} s", rows, out)
    for fault in tally.faults:
        click.echo(fault)
    counts = ", ".join(f"{kind} {tally.outcomes[kind]}" for kind in ("lost", "wrong", "hung"))
    click.echo(counts)
    sys.exit(1 if tally.faults else 0)


if __name__ == "__main__":
    main()
