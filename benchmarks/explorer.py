"""Latency of the explorer in a real browser: from a slider's input event until the new image is decoded.

    python -m benchmarks.explorer [--model dcgan] [--preset dcgan64-k4] [--moves 200] [--out explorer.json]

The weights are random, because only time matters. Server, explorer and a headless Chromium share the machine. A drag is
60 moves, one every 16 ms; its latency is the time from the last move to the last picture.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
import numpy as np

from benchmarks.report import report
from benchmarks.serving import publish_untrained, server_process

_STOP_TIMEOUT_S: Final = 30
_DRAGS: Final = 10
_CHROMIUM_FLAGS: Final = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")

# Milliseconds from each input event until its image is decoded.
_MOVES: Final = """
async ([slider, picture, moves]) => {
  const input = document.querySelector(slider + ' input[type=range]');
  const image = () => document.querySelector(picture + ' img');
  const took = [];
  for (let move = 0; move < moves; move++) {
    const before = image().src;
    const low = Number(input.min), span = Number(input.max) - low;
    const began = performance.now();
    const shown = new Promise((resolve) => {
      const observer = new MutationObserver(async () => {
        if (!image() || image().src === before) return;
        observer.disconnect();
        await image().decode();
        resolve(performance.now() - began);
      });
      observer.observe(document.querySelector(picture), {subtree: true, childList: true, attributes: true});
      setTimeout(() => { observer.disconnect(); resolve(null); }, 10000);
    });
    input.value = String(low + span * ((move * 0.37) % 1));
    input.dispatchEvent(new Event('input', {bubbles: true}));
    took.push(await shown);
  }
  return took;
}
"""

# Milliseconds from the last of 60 input events to the last image.
_DRAG: Final = """
async ([slider, picture, start]) => {
  const input = document.querySelector(slider + ' input[type=range]');
  let last = null;
  const observer = new MutationObserver(async () => {
    await document.querySelector(picture + ' img').decode();
    last = performance.now();
  });
  observer.observe(document.querySelector(picture), {subtree: true, childList: true, attributes: true});
  const low = Number(input.min), span = Number(input.max) - low;
  for (let move = 0; move < 60; move++) {
    input.value = String(low + span * ((start + move / 61) % 1));
    input.dispatchEvent(new Event('input', {bubbles: true}));
    await new Promise((resolve) => setTimeout(resolve, 16));
  }
  const ended = performance.now() - 16;
  await new Promise((resolve) => setTimeout(resolve, 1500));
  observer.disconnect();
  return Math.max(0, last - ended);
}
"""


@contextmanager
def explorer_process(address: str) -> Iterator[str]:
    """The explorer of a server as a process; yields the page's address."""
    flags = ["explore", "--address", address, "--port", "0"]
    with subprocess.Popen([sys.executable, "-u", "-m", "client", *flags], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = next(line for line in process.stdout if "http://" in line)
            yield line.partition(" at ")[2].partition(" ")[0]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(_STOP_TIMEOUT_S)


def measure(url: str, moves: int, chromium: str) -> list[dict[str, Any]]:
    """Rows for the table."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(_CHROMIUM_FLAGS))
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(60_000)
        page.goto(url)
        page.wait_for_selector("#picture img")
        page.wait_for_selector("#direction-1 input[type=range]")
        page.get_by_text("Single dimensions of the latent").click()
        page.wait_for_selector("#dimension-1 input[type=range]")
        rows = []
        for name, slider, picture in (
            ("dimension slider", "#dimension-1", "#picture"),
            ("direction slider", "#direction-1", "#picture"),
            ("morph slider", "#fraction", "#morph"),
        ):
            if picture == "#morph":
                page.get_by_role("tab", name="Morph").click()
                page.wait_for_selector("#morph img")
            page.evaluate(_MOVES, [slider, picture, 10])  # warm-up
            rows.append(_row(name, page.evaluate(_MOVES, [slider, picture, moves])))
            drags = [page.evaluate(_DRAG, [slider, picture, drag / _DRAGS]) for drag in range(_DRAGS)]
            rows.append(_row(f"{name}, end of a drag", drags))
        browser.close()
    return rows


def _row(name: str, took_ms: list[float | None]) -> dict[str, Any]:
    shown = [took for took in took_ms if took is not None]
    p50, p95, p99 = np.percentile(shown, [50, 95, 99]).tolist()
    return {
        "what": name,
        "moves": len(took_ms),
        "never shown": len(took_ms) - len(shown),
        "p50 ms": p50,
        "p95 ms": p95,
        "p99 ms": p99,
        "max ms": max(shown),
    }


@click.command()
@click.option("--model", default="dcgan", show_default=True)
@click.option("--preset", default="dcgan64-k4", show_default=True)
@click.option("--moves", type=click.IntRange(1, 100_000), default=200, show_default=True, help="Moves per slider.")
@click.option("--chromium", type=click.Path(exists=True), help="Browser to use.  [default: chromium on PATH]")
@click.option("--out", type=click.Path(path_type=Path), help="JSON file to write.")
def main(model: str, preset: str, moves: int, chromium: str | None, out: Path | None) -> None:
    """Measures the explorer's sliders."""
    found = chromium or shutil.which("chromium")
    if found is None:
        raise click.UsageError("--chromium: not found on PATH; install chromium, or give its path")
    with tempfile.TemporaryDirectory() as folder:
        publish_untrained(Path(folder), model, preset)
        with server_process(Path(folder)) as (_, address), explorer_process(address) as url:
            rows = measure(url, moves, found)
    report(f"explorer: slider to new picture, {preset}", rows, out)


if __name__ == "__main__":
    main()
