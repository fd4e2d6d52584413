"""Serving speed against its limit: the same ONNX file through the server, and in this process without a server.

    python -m benchmarks.serving [--model dcgan] [--preset dcgan64-k4] [--seconds 5] [--rounds 3] [--out serving.json]

The weights are random, because only time matters. Client, server and the in-process session share the machine, and the
measurements are interleaved round by round, so read the ratios. A translator gets noise images, which
the client splits into requests.
"""

from __future__ import annotations

import concurrent.futures
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.report import report
from client import GanClient
from exporter.export import export, plan_export
from exporter.source import Source
from ganserve.bundle import ONNX_FILE, OUTPUT_PIXELS, Card, ImageInput, LatentInput, RowInput, example_rows
from trainer.models.progressive import ProgressiveGenerator, plain
from trainer.presets import choose_preset

_STOP_TIMEOUT_S = 30


def publish_untrained(models: Path, model: str, preset: str) -> tuple[Path, Card]:
    """Exports a generator or translator with random weights; returns its folder and card."""
    config = choose_preset(model, preset, None)
    side = config.network.image_size
    row_input: RowInput = ImageInput(channels=config.network.channels, height=side, width=side)
    if config.takes_latents:
        row_input = LatentInput(latent_dim=config.network.latent_dim)
    network = config.build_generator()
    if isinstance(network, ProgressiveGenerator):
        network = plain(network)
    source = Source(
        network=network.eval(),
        input=row_input,
        name=model,
        kind=model,
        architecture=config.network.architecture,
        dataset="",
    )
    return export(source, plan_export(models, model, None))


@contextmanager
def server_process(
    models: Path, flags: Sequence[str] = (), module: str = "server"
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server process with these flags; yields it and its address. `module` is the program to start."""
    command = [sys.executable, "-m", module, "--models", str(models), "--address", "127.0.0.1:0"]
    command += ["--metrics-address", "127.0.0.1:0", "--lame-duck-s", "0", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            ready = next(line for line in process.stdout if line.startswith("ready:"))
            yield process, ready.partition(" on ")[2].partition(",")[0]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(_STOP_TIMEOUT_S)


def images_per_second(call: Callable[[], int], callers: int, seconds: float) -> float:
    """Images per second of `call` from `callers` threads that repeat it for about `seconds`, at least once each."""
    began = time.perf_counter()

    def keep_calling(_: int) -> int:
        images = call()
        while time.perf_counter() - began < seconds:
            images += call()
        return images

    with concurrent.futures.ThreadPoolExecutor(callers) as pool:
        images = sum(pool.map(keep_calling, range(callers)))
    return images / (time.perf_counter() - began)


@click.command()
@click.option("--model", default="dcgan", show_default=True)
@click.option("--preset", default="dcgan64-k4", show_default=True)
@click.option("--seconds", type=float, default=5.0, show_default=True, help="Seconds per measurement.")
@click.option("--rounds", type=int, default=3, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="JSON file to write.")
def main(model: str, preset: str, seconds: float, rounds: int, out: Path | None) -> None:
    """Compares served images per second with the same session in-process."""
    with tempfile.TemporaryDirectory() as repository:
        models = Path(repository)
        folder, card = publish_untrained(models, model, preset)
        session = onnxruntime.InferenceSession(folder / ONNX_FILE, providers=["CPUExecutionProvider"])

        def in_process(rows: int) -> Callable[[], int]:
            inputs = example_rows(card.input, 0, rows)
            return lambda: len(session.run([OUTPUT_PIXELS], {card.input.name: inputs})[0])

        with server_process(models) as (_, address), GanClient(address) as client:

            def fetch(inputs: NDArray[Any]) -> NDArray[Any]:
                if isinstance(card.input, ImageInput):
                    return client.translate(model, inputs)
                return client.generate(model, latents=inputs)

            def served(rows: int) -> Callable[[], int]:
                inputs = example_rows(card.input, 0, rows)
                return lambda: len(fetch(inputs))

            inputs = example_rows(card.input, 0, 3)
            direct = session.run([OUTPUT_PIXELS], {card.input.name: inputs})[0]
            assert np.abs(fetch(inputs).astype(int) - direct).max() <= 1
            cells = [(rows, callers) for rows, callers in ((1, 1), (1, 8), (1, 32), (64, 1), (64, 4), (64, 8))]
            figures: dict[tuple[str, int, int], list[float]] = {}
            for number in range(rounds):
                for rows in (1, 64):
                    call = in_process(rows)
                    figures.setdefault(("in-process", rows, 1), []).append(images_per_second(call, 1, seconds))
                for rows, callers in cells:
                    call = served(rows)
                    figures.setdefault(("served", rows, callers), []).append(images_per_second(call, callers, seconds))
                click.echo(f"round {number + 1} of {rounds} done")
    limits = {rows: statistics.median(figures["in-process", rows, 1]) for rows in (1, 64)}
    table: list[dict[str, Any]] = [
        {
            "where": where,
            "rows per call": rows,
            "callers": callers,
            "images/s": round(statistics.median(values)),
            "lowest": round(min(values)),
            "highest": round(max(values)),
            "of in-process, same rows": statistics.median(values) / limits[rows],
            "of in-process, 64 rows": statistics.median(values) / limits[64],
        }
        for (where, rows, callers), values in figures.items()
    ]
    report(f"serving {preset} on the CPU, pixels, median of {rounds} x {seconds:g} s", table, out)


if __name__ == "__main__":
    main()
