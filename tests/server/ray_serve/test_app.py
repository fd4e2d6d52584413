"""Tests for server.ray_serve.app and deploy/ray/serve_config.yaml, without Ray."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.config import ServerConfig
from server.errors import StartupError
from server.ray_serve.app import MAX_ONGOING_REQUESTS, build, config_of
from server.ray_serve.rows_policy import RowsPolicy

SERVE_CONFIG = Path(__file__).parents[3] / "deploy" / "ray" / "serve_config.yaml"


@pytest.fixture
def serve_config() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(SERVE_CONFIG.read_text())
    return config


def test_args_are_flags_of_the_server() -> None:
    args = {"models": "/models", "cores": 2, "max_batch_size": 8, "cuda-graphs": True, "grpc-compression": False}
    expected = ServerConfig(models=Path("/models"), cores=2, max_batch_size=8, cuda_graphs=True)
    assert config_of(args) == expected
    assert config_of({}) == ServerConfig()


@pytest.mark.parametrize(
    ("args", "text"),
    [({"modls": "/models"}, "--modls"), ({"cores": "many"}, "--cores.*many"), ({"cores": True}, "--cores")],
)
def test_a_wrong_arg_is_named(args: dict[str, Any], text: str) -> None:
    with pytest.raises(StartupError, match=rf"args: .*{text}"):
        config_of(args)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(StartupError, match=r"pip install '\.\[ray\]'"):
        build({})


def test_the_paths_of_the_configuration_exist(serve_config: dict[str, Any]) -> None:
    [application] = serve_config["applications"]
    [deployment] = application["deployments"]
    paths = [
        application["import_path"],
        deployment["autoscaling_config"]["policy"]["policy_function"],
        *serve_config["grpc_options"]["grpc_servicer_functions"],
    ]
    for path in paths:
        module, _, name = path.partition(":")
        assert callable(getattr(importlib.import_module(module), name)), path


def test_the_args_of_the_configuration_are_flags_that_fit_it(serve_config: dict[str, Any]) -> None:
    [application] = serve_config["applications"]
    [deployment] = application["deployments"]
    config = config_of(application["args"])
    assert config.cores == deployment["ray_actor_options"]["num_cpus"]
    assert deployment["graceful_shutdown_timeout_s"] > config.drain_timeout_s
    assert deployment["max_ongoing_requests"] == MAX_ONGOING_REQUESTS
    assert application["route_prefix"] == "/"  # with null, the proxy finds no application
    RowsPolicy(**deployment["autoscaling_config"]["policy"]["policy_kwargs"])
