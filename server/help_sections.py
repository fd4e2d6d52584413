"""The page of `python -m server --help`: its many flags stand under headings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click

GENERAL: Final = "General"  # where also those stand that no section names
SECTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    GENERAL: ("config", "models", "show_config", "version"),
    "Addresses": ("address", "admin_address", "http_address", "metrics_address"),
    "Security": ("tls_certificate", "tls_key", "tls_client_ca", "token_file", "admin_token_file"),
    "Models": ("model_control", "poll_s", "load_timeout_s"),
    "Compute": (
        "device",
        "cuda_devices",
        "cuda_graphs",
        "backend",
        "precision",
        "cores",
        "engines",
        "compute_timeout_s",
    ),
    "Batching and limits": (
        "max_batch_size",
        "max_queue_delay_us",
        "max_queue_rows",
        "max_request_rows",
        "max_request_bytes",
        "max_image_pixels",
    ),
    "Connections": (
        "max_connections",
        "max_connection_idle_s",
        "max_connection_age_s",
        "max_connection_age_grace_s",
        "front",
        "grpc_compression",
    ),
    "Logs and traces": ("access_log", "log_level", "log_format", "otlp_endpoint"),
    "Stopping": ("lame_duck_s", "drain_timeout_s"),
}


class SectionedHelp(click.Command):
    """A command whose help page has `SECTIONS` instead of one list of options."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the flags under their headings, and after them the commands of a group."""
        section_of = {name: section for section, names in SECTIONS.items() for name in names}
        rows: dict[str, list[tuple[str, str]]] = {section: [] for section in SECTIONS}
        for param in self.get_params(ctx):
            if (record := param.get_help_record(ctx)) is not None:
                rows[section_of.get(param.name or "", GENERAL)].append(record)
        for section, records in rows.items():
            if records:
                with formatter.section(section):
                    formatter.write_dl(records)
        if isinstance(self, click.Group):
            self.format_commands(ctx, formatter)
