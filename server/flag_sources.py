"""Values of flags from the environment and from a file: the flag goes before the variable, that before the file.

Covers all options of a command, so a new flag needs nothing here.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from click.core import ParameterSource

from ganserve.command_line import OneLineErrors

ENVIRONMENT_PREFIX: Final = "GANSERVE"
CONTEXT_SETTINGS: Final[Mapping[str, Any]] = {
    "max_content_width": 120,
    "auto_envvar_prefix": ENVIRONMENT_PREFIX,  # subcommands too: both commands read the same variables
}
HELP: Final = (
    f"Every flag can also be set by a variable, such as {ENVIRONMENT_PREFIX}_MODELS for --models, and by a line of the"
    " TOML file of --config, such as models = 'models'. A flag goes before the variable, and that before the file."
)
_FILE_KEY: Final = f"{__name__}.file"  # in the meta of a context
_NOT_SETTINGS: Final = {"config", "show_config", "version", "help"}

_Command = TypeVar("_Command", bound=Callable[..., Any])


def variable_of(param: click.Parameter) -> str:
    """The environment variable of an option."""
    return f"{ENVIRONMENT_PREFIX}_{(param.name or '').upper()}"


def settings_of(command: click.Command) -> dict[str, click.Option]:
    """The options that a variable or the file can set, by their key in the file."""
    options = [param for param in command.params if isinstance(param, click.Option)]
    return {key_of(option): option for option in options if option.name not in _NOT_SETTINGS}


def misspelt_variables(command: click.Command, environment: Iterable[str]) -> dict[str, str]:
    """Variables that set nothing but are spelt almost like one that does, with that one."""
    known = [variable_of(option) for option in settings_of(command).values()]
    unknown = [name for name in environment if name.startswith(f"{ENVIRONMENT_PREFIX}_") and name not in known]
    return {name: close[0] for name in unknown if (close := get_close_matches(name, known, 1, cutoff=0.9))}


def key_of(option: click.Parameter) -> str:
    """The key of an option in the file: its flag, without the dashes before it."""
    return option.opts[0].lstrip("-")


class SourcedErrors(OneLineErrors):
    """A command whose usage errors name where a wrong value comes from: the flag, the variable or the file."""

    def describe(self, error: click.UsageError) -> str:
        """The text of a usage error."""
        param, ctx = getattr(error, "param", None), error.ctx
        if isinstance(error, click.BadParameter) and param is not None and ctx is not None:
            source = ctx.get_parameter_source(param.name or "")
            hint = param.get_error_hint(ctx)
            if source is ParameterSource.ENVIRONMENT:
                error.param_hint = f"{hint} (env var: '{variable_of(param)}')"
            elif source is ParameterSource.DEFAULT_MAP:
                error.param_hint = f"{hint} (key '{key_of(param)}' in {ctx.meta[_FILE_KEY]})"
        return super().describe(error)


def config_option(command: _Command) -> _Command:
    """Adds --config FILE."""
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        is_eager=True,  # before the flags that it sets
        expose_value=False,
        callback=_read_into,
        help="TOML file with values for flags.",
    )(command)


def _read_into(ctx: click.Context, _param: click.Parameter, path: Path | None) -> None:
    if path is None or ctx.resilient_parsing:
        return
    ctx.meta[_FILE_KEY] = path
    others = settings_of(ctx.parent.command) if ctx.parent is not None else {}
    ctx.default_map = read_file(path, settings_of(ctx.command), others)


def read_file(
    path: Path, options: Mapping[str, click.Option], ignored: Mapping[str, click.Option] | None = None
) -> dict[str, Any]:
    """The values in a file, by the names of the parameters.

    Args:
        path: of the file.
        options: those that the file may set, by key.
        ignored: those of another command, which may share the file.

    Raises:
        click.UsageError: the file cannot be read, has an unknown key, or a value of the wrong type.
    """
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise click.UsageError(f"--config {path}: cannot be read ({error.strerror}); give a readable file") from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise click.UsageError(f"--config {path}: not TOML ({error}); write lines such as engines = 2") from error
    values: dict[str, Any] = {}
    for key, value in content.items():
        flag = key.replace("_", "-")
        option = options.get(flag)
        if option is None and flag in (ignored or {}):
            continue
        if option is None:
            near = get_close_matches(flag, options, 1)
            remedy = f"did you mean {near[0]}?" if near else "the keys are the names of the flags in --help"
            raise click.UsageError(f"--config {path}: {key}: no such setting; {remedy}")
        if option.name in values:
            raise click.UsageError(f"--config {path}: {key}: given twice, with _ and with -; leave one out")
        types, expected = _expected(option)
        parts = value if option.multiple else [value]
        # A bool is an int in Python, but not in TOML.
        if not isinstance(parts, list) or not all(
            isinstance(part, types) and isinstance(part, bool) is option.is_flag for part in parts
        ):
            expected = f"a list, each {expected}" if option.multiple else expected
            raise click.UsageError(f"--config {path}: {key}: the value does not fit; write {flag} = {expected}")
        values[option.name or ""] = value
    return values


def _expected(option: click.Option) -> tuple[type[Any] | tuple[type[Any], ...], str]:
    """The types of a TOML value that an option takes, and their description."""
    if option.is_flag:
        return bool, "true or false"
    if isinstance(option.type, click.types.FloatParamType):
        return (int, float), "a number"
    if isinstance(option.type, click.types.IntParamType):
        return int, "an integer"
    return str, "a text in quotes"


def as_toml(ctx: click.Context) -> str:
    """The settings in effect, as the content of a file for --config; those without a value are comments."""
    lines = []
    for key, option in settings_of(ctx.command).items():
        value = ctx.params[option.name or ""]
        if option.multiple:
            value = list(value)
        if value is None and option.default is not None:
            value = "none"  # as a type spells it that turns off what is on by default
        lines.append(f"# {key} is not set\n" if value is None else f"{key} = {_toml(value)}\n")
    return "".join(lines)


def _toml(value: Any) -> str:
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, tuple):  # of numbers, which their flag takes separated by commas
        value = ",".join(map(str, value))
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
