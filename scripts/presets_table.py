"""Writes README's table of models and presets from trainer/presets.py: python -m scripts.presets_table."""

from __future__ import annotations

from pathlib import Path

from trainer.models import shown_size
from trainer.presets import PRESETS

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- presets: begin", "<!-- presets: end -->"


def presets_table() -> str:
    """The table in Markdown."""
    lines = [
        "| model | preset | made for | network | image | batch | trained for |",
        "|---|---|---|---|---|---|---|",
    ]
    previous = ""
    for (model, name), preset in PRESETS.items():
        config, network = preset.config, preset.config.network
        label = f"`{model}`" if model != previous else ""
        size = shown_size(network.size)
        lines.append(
            f"| {label} | `{name}` | {preset.made_for} | {network.architecture}: {preset.summary} | {size} |"
            f" {config.batch_size} | {preset.length} |"
        )
        previous = model
    return "\n".join(lines)


def with_table(text: str) -> str:
    """README's text with the current table."""
    head, rest = text.split(BEGIN, 1)
    comment, rest = rest.split("\n", 1)
    _, tail = rest.split(END, 1)
    return f"{head}{BEGIN}{comment}\n{presets_table()}\n{END}{tail}"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text()))
