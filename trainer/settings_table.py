"""The table of --show-config: every flag that the run reads, its value, and what it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from rich.table import Table

from trainer.config import AnyConfig, check_flags
from trainer.errors import UserError
from trainer.flags import FIELDS, GROUPS
from trainer.models import flag_size

_OWN_FIELDS: Final = {name: name for name in ("model", "preset", "dataset", "epochs", "steps", "images", "precision")}


def settings_table(config: AnyConfig) -> Table:
    """One row per flag, in the groups of --help; the last group holds the fields that only --set changes."""
    raw = msgspec.to_builtins(config)
    del raw["network"]["image_width"]
    raw["network"]["image_size"] = flag_size(config.network.size)
    table = Table(title=f"{config.model} ({config.preset})", title_justify="left", box=None, pad_edge=False)
    table.add_column("flag", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("meaning", overflow="fold")
    left = {path: value for path, value in _flat(raw).items() if value is not None}
    for group, flags in GROUPS.items():
        rows = []
        for flag in flags:
            name = flag["names"][0].partition("/")[0]
            field = (_OWN_FIELDS | FIELDS).get(name.removeprefix("--").replace("-", "_"))
            if field is None or (value := left.pop(field, None)) is None or not _is_read(config, field):
                continue
            rows.append((name, shown(value), flag["help"]))
        if rows:
            table.add_row(f"[bold]{group}[/bold]")
            for row in rows:
                table.add_row(*row)
    for name in ("kind", "schema_version"):
        left.pop(name, None)
    table.add_row("[bold]With --set KEY=VALUE[/bold]")
    for field, value in left.items():
        table.add_row(field, shown(value), "")
    return table


def shown(value: Any) -> str:
    """A setting's value as the flag takes it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if value != "" else "-"


def _is_read(config: AnyConfig, field: str) -> bool:
    try:
        check_flags(config, [field.rpartition(".")[2]])
    except UserError:
        return False
    return True


def _flat(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Fields by the names that `override` takes."""
    flat: dict[str, Any] = {}
    for name, value in raw.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{field}": inner for field, inner in value.items()}
        elif name == "betas":
            flat |= {f"betas.{index}": beta for index, beta in enumerate(value)}
        else:
            flat[name] = value
    return flat
