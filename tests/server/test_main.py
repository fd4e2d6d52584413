"""The program as users start it: exit codes, one-line errors, signals."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ganserve.v1 import generator_pb2 as pb
from ganserve.v1.generator_pb2_grpc import GeneratorStub
from server.__main__ import main
from server.config import ServerConfig
from server.engines.base import cuda_devices
from tests.picture_files import encoded, noise
from tests.server.endless_graphs import loop_forever
from tests.server.tiny_bundles import publish_tiny_bundle, publish_tiny_translator, tiny_translation

ANY_PORTS = ["--address", "127.0.0.1:0", "--metrics-address", "127.0.0.1:0"]
AT_ONCE = ["--lame-duck-s", "0"]
REPOSITORY_ROOT = Path(__file__).parents[2]
Launch = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def launch(repository: Path) -> Iterator[Launch]:
    """Starts `python -m server` on `repository`; kills it at the end if it still runs."""
    processes: list[subprocess.Popen[str]] = []

    def launch_one(*flags: str, program: tuple[str, str] = ("-m", "server")) -> subprocess.Popen[str]:
        command = [sys.executable, *program, "--models", str(repository), "--device", "cpu", *ANY_PORTS, *AT_ONCE]
        command += flags
        processes.append(
            subprocess.Popen(command, cwd=REPOSITORY_ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
        return processes[-1]

    yield launch_one
    for process in processes:
        process.kill()
        process.communicate()


def wait_until_ready(process: subprocess.Popen[str]) -> tuple[list[str], str]:
    """Returns the lines up to the ready line, and the address in it."""
    lines: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if line.startswith("ready: "):
            match = re.search(r" on (127\.0\.0\.1:[1-9]\d*), ", line)
            assert match, line
            return lines, match[1]
    raise AssertionError(f"it never became ready: {process.communicate()}")


def generate(channel: grpc.Channel, count: int) -> Any:
    stub: Any = GeneratorStub(channel)  # type: ignore[no-untyped-call]  # generated
    return stub.Generate.future(pb.GenerateRequest(model="tiny", seeded=pb.SeededLatents(seed=1, count=count)))


def test_it_prints_a_ready_line_and_exits_with_0_on_ctrl_c(launch: Launch) -> None:
    process = launch()
    lines, address = wait_until_ready(process)
    assert lines[0] == "model tiny:1: onnx on cpu, fp32"
    assert re.fullmatch(
        r"ready: serving tiny:1 on 127\.0\.0\.1:\d+, metrics on http://127\.0\.0\.1:\d+/metrics", lines[1]
    )
    with grpc.insecure_channel(address) as channel:
        assert generate(channel, 2).result(timeout=20).images.shape[0] == 2
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()


def test_the_log_tells_each_step_of_a_stop(launch: Launch) -> None:
    process = launch("--lame-duck-s", "0.05", "--drain-timeout-s", "20")
    wait_until_ready(process)
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=20)
    assert [line.partition(" INFO ")[2] for line in log.splitlines()[-3:]] == [
        "stopping: serving for 0.05 s more (--lame-duck-s), until balancers notice",
        "draining: finishing 0 requests in at most 20 s (--drain-timeout-s)",
        "stopped",
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_it_serves_even_if_stdout_cannot_be_written(repository: Path) -> None:
    command = [sys.executable, "-m", "server", "--models", str(repository), "--device", "cpu", *ANY_PORTS, *AT_ONCE]
    with (
        Path("/dev/full").open("w") as full,
        subprocess.Popen(command, cwd=REPOSITORY_ROOT, stdout=full, stderr=subprocess.PIPE, text=True) as process,
    ):
        try:
            assert process.stderr is not None
            line = next(line for line in process.stderr if "stdout cannot be written" in line)
            assert "No space left on device" in line
            assert next(line for line in process.stderr if "ready: serving tiny:1 on 127.0.0.1:" in line)
            process.terminate()
            assert process.wait(timeout=20) == 0
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()


def test_without_an_http_port_it_serves_grpc_only(launch: Launch) -> None:
    process = launch("--metrics-address", "none")
    lines, address = wait_until_ready(process)
    assert lines[-1] == f"ready: serving tiny:1 on {address}, no metrics"
    with grpc.insecure_channel(address) as channel:
        assert generate(channel, 1).result(timeout=20).images.shape[0] == 1


@pytest.mark.skipif(sys.platform != "linux", reason="limits the files of another process")
def test_half_sent_http_requests_do_not_lock_out_grpc_callers(launch: Launch) -> None:
    process = launch()
    lines, address = wait_until_ready(process)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (160, 160))
    host, _, port = lines[-1].rpartition("//")[2].removesuffix("/metrics").rpartition(":")
    with ExitStack() as stack:
        for _ in range(200):
            connection = stack.enter_context(socket.create_connection((host, int(port)), timeout=20))
            connection.sendall(b"GET /metr")
        with grpc.insecure_channel(address) as channel:
            assert generate(channel, 1).result(timeout=20).images.shape[0] == 1


def test_requests_accepted_before_sigterm_are_answered(launch: Launch) -> None:
    # The rows wait longer for a fuller batch than a test may last: only a drain can release them.
    process = launch("--max-queue-delay-us", "60000000", "--max-batch-size", "4096")
    lines, address = wait_until_ready(process)
    metrics_url = lines[-1].rpartition(" ")[2]
    with grpc.insecure_channel(address) as channel:
        waiting = [generate(channel, 40) for _ in range(6)]
        for _ in range(2000):
            with urllib.request.urlopen(metrics_url, timeout=10) as page:
                if b'ganserve_queue_rows{model="tiny",version="1"} 240.0' in page.read():
                    break
        else:
            raise AssertionError("the rows never came into the queue")
        process.send_signal(signal.SIGTERM)
        assert [call.result(timeout=20).images.shape[0] for call in waiting] == [40] * 6
        assert process.wait(timeout=20) == 0


def test_odd_image_metadata_neither_fails_a_request_nor_fills_the_log(launch: Launch, repository: Path) -> None:
    publish_tiny_translator(repository)
    pixels = noise(4, 6, 3)
    odd = encoded(pixels, exif=b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x05\x00")  # cut short
    process = launch()
    _, address = wait_until_ready(process)
    with grpc.insecure_channel(address) as channel:
        stub: Any = GeneratorStub(channel)  # type: ignore[no-untyped-call]  # generated
        request = pb.TranslateRequest(
            model="tiny-a2b", encoded=pb.EncodedImages(data=[odd]), format=pb.IMAGE_FORMAT_PIXELS
        )
        assert stub.Translate(request, timeout=20).images.data == tiny_translation(pixels).tobytes()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0
    assert process.stderr is not None
    assert "EXIF" not in process.stderr.read()


ENDLESS_DECODER = """
import threading
from server.generator import image_reader
from server.__main__ import main
def read_row(admitted, row):
    print("decoding", flush=True)
    threading.Event().wait()
image_reader.read_row = read_row
image_reader._CLOSE_PATIENCE_S = 0.01
main()
"""


def test_an_image_that_never_finishes_decoding_does_not_block_a_clean_exit(launch: Launch, repository: Path) -> None:
    publish_tiny_translator(repository)
    process = launch(program=("-c", ENDLESS_DECODER))
    _, address = wait_until_ready(process)
    with grpc.insecure_channel(address) as channel:
        stub: Any = GeneratorStub(channel)  # type: ignore[no-untyped-call]  # generated
        picture = encoded(noise(4, 6, 3))
        call = stub.Translate.future(pb.TranslateRequest(model="tiny-a2b", encoded=pb.EncodedImages(data=[picture])))
        assert process.stdout is not None
        assert process.stdout.readline() == "decoding\n"
        call.cancel()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    assert process.stderr is not None
    assert "is still being decoded after its client disconnected" in process.stderr.read()


def test_it_serves_new_clients_for_a_while_after_sigterm_and_ends_at_once_at_a_second_signal(launch: Launch) -> None:
    process = launch("--lame-duck-s", "100")
    _, address = wait_until_ready(process)
    with grpc.insecure_channel(address) as watched, grpc.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(watched)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=""))
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        process.send_signal(signal.SIGTERM)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert generate(channel, 2).result(timeout=20).images.shape[0] == 2
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 128 + signal.SIGINT


def user_error(*flags: str, cwd: Path | None = None) -> str:
    """Runs the command with invalid flags in this process; returns its error."""
    result = CliRunner().invoke(main, flags, prog_name="python -m server")
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    return result.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--address", "localhost"], "Invalid value for '--address': 'localhost' is not HOST:PORT"),
        (["--address", "127.0.0.1:65536"], "Invalid value for '--address'"),
        (["--address", ":50051"], "Invalid value for '--address'"),
        (["--address", "::1:50051"], "Invalid value for '--address'"),
        (["--metrics-address", "127.0.0.1:http"], "Invalid value for '--metrics-address'"),
        (["--device", "tpu"], "'tpu' is not one of 'auto', 'cpu', 'cuda'"),
        (["--max-batch-size", "0"], "Invalid value for '--max-batch-size': 0"),
        (["--max-image-pixels", "0"], "Invalid value for '--max-image-pixels': 0"),
        (["--max-request-bytes", "4294967296"], "Invalid value for '--max-request-bytes': 4294967296"),
        (["--max-queue-delay-us", "-1"], "Invalid value for '--max-queue-delay-us': -1"),
    ],
)
def test_an_invalid_flag_is_named(flags: list[str], message: str) -> None:
    assert message in user_error(*flags)


def test_a_missing_repository_prints_one_line_that_names_the_flag(tmp_path: Path) -> None:
    error = user_error("--models", str(tmp_path / "nowhere"), *ANY_PORTS)
    assert error.startswith("Error: --models: no model repository at")
    assert error.count("\n") == 1


@pytest.mark.skipif(cuda_devices() > 0, reason="CUDA works here")
def test_broken_cuda_prints_one_line_and_does_not_fall_back_to_the_cpu(repository: Path) -> None:
    error = user_error("--models", str(repository), "--device", "cuda", *ANY_PORTS)
    assert error.startswith("Error: --device cuda: ")
    assert "or use --device cpu" in error
    assert error.count("\n") == 1


def test_a_unix_socket_is_served_again_after_a_crash_and_gone_after_a_stop(launch: Launch, tmp_path: Path) -> None:
    path = tmp_path / "it.sock"
    address = f"unix:{os.path.relpath(path, REPOSITORY_ROOT)}"  # the whole path may be too long
    for stop, exit_code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 0)):
        process = launch("--address", address)
        assert process.stdout is not None
        ready = next(line for line in process.stdout if line.startswith("ready: "))
        assert f" on {address}, metrics on " in ready
        with grpc.insecure_channel(f"unix:{os.path.relpath(path)}") as channel:
            assert generate(channel, 2).result(timeout=20).images.shape[0] == 2
        process.send_signal(stop)
        assert process.wait(timeout=20) == exit_code
    assert not path.exists()


def test_metrics_are_not_served_on_a_unix_socket() -> None:
    result = CliRunner().invoke(main, ["--metrics-address", "unix:/run/metrics.sock"])
    assert result.exit_code == 2
    assert "is a Unix socket, which only gRPC takes" in result.output


def test_every_flag_shows_the_default_of_the_config() -> None:
    help_text = " ".join(CliRunner().invoke(main, ["--help"]).output.split())
    names = {param.name for param in main.params}
    flagged = [field for field in fields(ServerConfig) if field.name in names and field.default not in (None, False)]
    assert len(flagged) > 10
    for field in flagged:
        assert f"[default: {field.default}" in help_text


def test_serving_needs_neither_torch_nor_the_other_stages() -> None:
    code = "import sys, server.app; print(sorted({'torch', 'onnx', 'trainer', 'client'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY_ROOT)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_an_endless_graph_holds_up_neither_the_start_nor_the_end(launch: Launch, repository: Path) -> None:
    publish_tiny_bundle(repository, "endless", change_graph=loop_forever)
    process = launch("--load-timeout-s", "1", "--compute-timeout-s", "3600")
    lines, address = wait_until_ready(process)
    assert lines[0] == "model tiny:1: onnx on cpu, fp32"
    assert lines[1].startswith("ready: serving tiny:1 on ")
    with grpc.insecure_channel(address) as channel:
        assert generate(channel, 2).result(timeout=20).images.shape[0] == 2
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "loading has not ended after 1 s; check its disk and its graph, or raise --load-timeout-s" in log
    assert "a model is still being loaded; it is cut off" in log
    assert "Traceback" not in log


def test_a_server_whose_models_never_load_ends_with_an_error(launch: Launch, tmp_path: Path) -> None:
    endless = tmp_path / "endless"
    publish_tiny_bundle(endless, change_graph=loop_forever)
    process = launch("--models", str(endless), "--load-timeout-s", "1", "--compute-timeout-s", "3600")
    _, log = process.communicate(timeout=60)
    assert process.returncode == 2
    assert log.endswith("works; see the log above, and export them again\n")


def test_a_model_in_place_of_a_repository_gets_a_hint(launch: Launch, repository: Path) -> None:
    process = launch("--models", str(repository / "tiny"))
    _, log = process.communicate(timeout=60)
    assert process.returncode == 2
    assert log.endswith(f"is a model, not a model repository: did you mean --models {repository}?\n")
