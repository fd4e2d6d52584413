"""`python -m trainer.evaluate`: the command line. The work is in command.py, which imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ganserve.command_line import OneLineErrors, model_version_option
from trainer.metrics.measure_names import DEFAULT_MEASURES, MEASURE_NAMES, MOST_IMAGES


@click.command(cls=OneLineErrors, context_settings={"max_content_width": 100, "show_default": True})
@click.argument("source", required=False, type=click.Path(path_type=Path))
@click.option("--checkpoint", metavar="[best|last|epoch-NNNN]", help="Checkpoint of a run. [default: best]")
@click.option("--runtime", type=click.Choice(["onnx", "torchscript"]), help="Runtime for a bundle. [default: onnx]")
@click.option("--latent-dim", type=click.IntRange(1, 1 << 20), help="Latent size of a TorchScript file.")
@click.option("--address", metavar="HOST:PORT", help="A running server, instead of SOURCE.")
@click.option("--model", metavar="NAME", help="Model on the server.")
@model_version_option(None, "torch", "torchvision", text="Version of the model; default: the newest.")
@click.option("--dataset", "--data", metavar="DATA", help="Real images; default: the source's training data.")
@click.option(
    "--data-root", type=click.Path(path_type=Path), help="Folder of torchvision's data sets.", metavar="FOLDER"
)
@click.option("--split", type=click.Choice(["train", "test"]), default="train", help="Split of the real images.")
@click.option("--images", type=click.IntRange(2, 1 << 20), help=f"Images per set; default: all, at most {MOST_IMAGES}.")
@click.option(
    "--measures", metavar="A,B|all", help=f"Some of {', '.join(MEASURE_NAMES)}. [default: {','.join(DEFAULT_MEASURES)}]"
)
@click.option(
    "--inception-weights",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Weights for FID and KID.",
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, help="Seed for all random draws.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help="Device to compute on.")
@click.option("--real-floor", is_flag=True, help="Also score real images against other real images.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Also write the JSON to a file.")
def main(*, as_json: bool, out: Path | None, **flags: Any) -> None:
    """Scores the images of SOURCE: a run folder, a bundle, or a TorchScript or ONNX file.

    The metrics of a run are also appended to its evaluations.jsonl.
    """
    from trainer.evaluate.command import run  # imports torch, which takes seconds

    run(flags, as_json=as_json, out=out)


if __name__ == "__main__":
    main()
