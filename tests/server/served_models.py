"""Stands in for models that are served, where nothing is computed."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import msgspec

from server.models.catalog import ServedModel
from server.request import Call
from server.statistics import ModelStatistics
from tests.server.tiny_cards import GENERATOR


def served(name: str = "tiny", version: int = 1, *, broken: bool = False, queued_rows: int = 0) -> ServedModel:
    """A version with statistics of its own."""
    card = msgspec.structs.replace(GENERATOR, name=name, version=version)
    batcher: Any = SimpleNamespace(broken=broken, queued_rows=queued_rows)
    return ServedModel(card, "onnx", "cpu", "fp32", batcher, ModelStatistics())


def call_of(model: str, version: int = 0) -> Call:
    """A request for a model."""
    return Call("Generate", time.perf_counter(), model=model, version=version)
