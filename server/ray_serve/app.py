"""The application that `serve deploy deploy/ray/serve_config.yaml` starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from server.config import ServerConfig
from server.errors import StartupError
from server.ray_serve.replica import Replica

MAX_ONGOING_REQUESTS: Final = 512
"""Of one replica. Ray's default of 5 would bound the batches: requests that wait in the proxy cannot share one."""

_FIELDS: Final = {field.name for field in fields(ServerConfig)}
_STOP_S: Final = 10.0  # to stop after the drain timeout


def config_of(args: Mapping[str, Any]) -> ServerConfig:
    """Returns the settings that flags of `python -m server` have.

    Args:
        args: the flags without their dashes, for example {"models": "/models", "cores": 2}; true stands for a flag
            without a value.

    Raises:
        StartupError: the server has no such flag, or it does not take this value.
    """
    import click

    from server.__main__ import main

    flags = [
        f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}")
        for name, value in args.items()
        if value is not False
    ]
    try:
        # As click.Command does it. The method of `main` would print an error of usage and exit.
        context = click.Command.make_context(main, "args", flags)
    except click.ClickException as error:
        raise StartupError(f"args: {error.format_message()}") from error
    return ServerConfig(**{name: value for name, value in context.params.items() if name in _FIELDS})


def build(args: dict[str, Any]) -> Any:
    """Returns the application; its settings are `args` in serve_config.yaml.

    Raises:
        StartupError: Ray is not installed, or a setting is wrong.
    """
    config = config_of(args)
    try:
        from ray import serve
    except ImportError as error:
        raise StartupError(f"Ray Serve is not installed ({error}); run pip install '.[ray]'") from error

    class Ganserve(Replica):
        """A replica that Ray closes."""

        async def __del__(self) -> None:
            await self.close()

    deployment = serve.deployment(
        name="Ganserve",
        max_ongoing_requests=MAX_ONGOING_REQUESTS,
        graceful_shutdown_timeout_s=config.drain_timeout_s + _STOP_S,
        user_config={},
    )(Ganserve)
    return deployment.bind(config)
