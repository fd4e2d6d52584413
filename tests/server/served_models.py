"""Fake served models that compute nothing."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import msgspec

from server.config import ServerConfig
from server.limits import contract_of
from server.models.catalog import ServedModel
from server.request import InFlightRequest
from server.statistics import ModelStatistics
from tests.server.tiny_cards import GENERATOR


def served(name: str = "tiny", version: int = 1, *, broken: bool = False, queued_rows: int = 0) -> ServedModel:
    """A version with its own statistics."""
    card = msgspec.structs.replace(GENERATOR, name=name, version=version)
    batcher: Any = SimpleNamespace(broken=broken, queued_rows=queued_rows)
    return ServedModel(contract_of(card, ServerConfig()), "onnx", "cpu", "fp32", batcher, ModelStatistics())


def call_of(model: str, version: int = 0) -> InFlightRequest:
    """A request for a model."""
    return InFlightRequest("Generate", time.perf_counter(), model=model, version=version)
