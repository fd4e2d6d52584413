"""Tests for server.ray_serve.methods: each name is one method, which the core answers."""

from __future__ import annotations

from server.config import ServerConfig
from server.core import Core, by_path
from server.fronts.base import Unary
from server.model_control.service import SERVICE as MODEL_CONTROL
from server.ray_serve.methods import PATHS, SERVICES


def test_no_two_services_share_a_name() -> None:
    assert len(PATHS) == sum(map(len, SERVICES.values()))


async def test_every_unary_method_of_the_core_has_a_name_except_control(config: ServerConfig) -> None:
    core = Core(config)
    methods = by_path(core.services(core.handler()))
    await core.close()
    unary = {path for path, method in methods.items() if isinstance(method, Unary)}
    assert {path for path in unary if not path.startswith(f"/{MODEL_CONTROL}/")} <= set(PATHS.values())


def test_streams_have_no_name() -> None:
    assert not PATHS.keys() & {"ModelStreamInfer", "Watch"}
