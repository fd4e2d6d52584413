"""The pages about the server agree with the code: their tables, numbers and commands."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path

import click
import pytest

from client.__main__ import cli as ganclient
from exporter import variants
from exporter.__main__ import main as exporter
from server.__main__ import main as server
from server.access_log import Line
from server.config import ServerConfig
from server.engines import bf16, layouts, loading, onnx_cpu
from server.errors import ServerError
from server.generator import image_reader
from server.http import app as http_app
from server.http import listener
from server.open_inference import stream, validation
from server.open_inference.parameters import NO_OPTIONS, read_options
from server.rpc import handler, parsing
from server.scheduling import pacing, queue
from server.scheduling.queue import DEFAULT_PRIORITY, PRIORITY_LEVELS
from server.statistics import ModelStatistics
from server.tuning import choice
from tests.docs.serving_page import COMMANDS, blocks, code, names, prose, spans, table

assert isinstance(server, click.Group)
TUNE = server.commands["tune"]
PROGRAMS: dict[str, click.Command] = {"server": server, "tune": TUNE, "exporter": exporter}
CHECKED_WITH_A_SERVER = ("ganclient ", "grpcurl ", "curl ")  # in test_serving_served.py


def flags_of(program: click.Command) -> dict[str, click.Parameter]:
    return {option: parameter for parameter in program.params for option in parameter.opts if option.startswith("--")}


def settings() -> dict[str, object]:
    """The settings without a flag, and their defaults."""
    flagged = {parameter.name for parameter in server.params}
    assert all(field.default is not MISSING for field in fields(ServerConfig))
    return {field.name: field.default for field in fields(ServerConfig) if field.name not in flagged}


@pytest.mark.parametrize(("name", "program"), [("flags", server), ("tune", TUNE)])
def test_the_page_lists_exactly_the_flags_and_defaults(name: str, program: click.Command) -> None:
    flags = flags_of(program)
    assert sorted(names(name)) == sorted(flags)
    defaults = program.make_context("it", []).params
    for flag, default, *texts in table(name):
        value = defaults.get(flags[code(flag)].name or "")
        if value is False:  # a switch
            assert default == "off", flag
        else:
            assert spans(default) == ([] if value in (None, ()) else [str(value)]), flag
        assert default
        assert all(texts)


def test_the_page_lists_exactly_the_settings_without_a_flag() -> None:
    assert sorted(names("settings")) == sorted(settings())
    for setting, default, _ in table("settings"):
        value = settings()[code(setting)]
        assert spans(default) == ([] if value is None else [str(value)]), setting


def test_every_flag_on_the_page_exists() -> None:
    programs = [*PROGRAMS.values(), *ganclient.commands.values()]
    known = {"--help"} | {flag for program in programs for flag in flags_of(program)}
    named = {flag for span in spans(prose()) for flag in re.findall(r"--[a-z][a-z0-9-]*", span)}
    assert named <= known


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_on_the_page_are_valid(command: str) -> None:
    words = shlex.split(command)
    if words[:2] != ["python", "-m"]:
        assert command.startswith(CHECKED_WITH_A_SERVER)
        return
    stage, *arguments = words[2:]
    program = PROGRAMS[stage]
    if stage == "server" and arguments[:1] == ["tune"]:
        program, arguments = TUNE, arguments[1:]
    assert program.make_context(stage, arguments).params


def test_files_on_the_page_are_valid(tmp_path: Path) -> None:
    assert blocks("toml")
    for number, content in enumerate(blocks("toml")):
        path = tmp_path / f"{number}.toml"
        path.write_text(content)
        assert server.make_context("server", ["--config", str(path)]).params["models"]


def errors(of: type[ServerError] = ServerError) -> Iterator[type[ServerError]]:
    for error in of.__subclasses__():
        yield error
        yield from errors(error)


def test_the_page_lists_exactly_the_statuses_and_reasons() -> None:
    listed = [(code(status), code(reason)) for status, reason, *_ in table("status codes")]
    assert sorted(listed) == sorted({(error.code.name, error.reason) for error in errors()})


def test_the_page_has_the_priorities_and_their_default() -> None:
    levels = table("priorities")
    assert [int(code(level)) for level, _ in levels] == list(range(1, PRIORITY_LEVELS + 1))
    assert [int(code(level)) for level, text in levels if "default" in text] == [DEFAULT_PRIORITY]
    assert f"1 to {PRIORITY_LEVELS}; 0 means the default" in prose()


@pytest.mark.parametrize(("name", "example", "_"), table("parameters"))
def test_every_parameter_accepts_its_example(name: str, example: str, _: str) -> None:
    read_options({code(name): json.loads(code(example))})


def test_priority_and_timeout_have_an_effect() -> None:
    values = {code(name): json.loads(code(example)) for name, example, _ in table("parameters")}
    for name in ("priority", "timeout"):
        assert read_options({name: values[name]}) != NO_OPTIONS


def test_the_page_has_every_field_of_the_access_log_in_order() -> None:
    assert names("access log") == list(Line.__struct_fields__)


def test_the_page_has_every_phase_in_order() -> None:
    assert names("phases") == list(ModelStatistics().phases)


@pytest.mark.parametrize(
    "phrase",
    [
        f"on up to {layouts.MAX_NARROW_INSTANCES} cores",
        f"batches of {bf16.LARGE_ROWS} rows or more",
        f"at least {loading.MIN_GAIN} times the throughput",
        f"within {choice.TOLERANCE:.0%} of the best throughput",
        f"takes at most {loading._QUICK_S * 1e3:g} ms",
        f"at most {pacing.MAX_WAIT_S * 1e3:g} ms from the arrival",
        f"within the last {pacing._MEMORY_S * 1e3:g} ms",
        f"more than {queue.PRIORITY_STEP_S:g} s older",
        f"up to {stream.MAX_IN_FLIGHT} messages are in progress",
        f"requests of {parsing.THREAD_WORTHY_BYTES >> 10} KiB or more",
        f"at most {validation.MAX_TYPED_VALUES:,} values",
        f"at most {validation.MAX_ID_LENGTH} characters",
        f"at most {handler.MAX_REQUEST_ID_LENGTH} printable ASCII characters",
        f"in up to {image_reader.MAX_THREADS} threads",
        f"at most {listener.MAX_CONNECTIONS} connections",
        f"must arrive within {listener.REQUEST_TIMEOUT_S:g} s",
        f"must be read within {listener.ANSWER_TIMEOUT_S:g} s",
        f"Up to {http_app.MAX_PAGES} pages of metrics",
        f"up to {http_app.MAX_SCRAPES} scrapes are in progress",
        f"models of up to {onnx_cpu._MAX_CUT_BYTES >> 20} MiB",
        f"At least {variants.MIN_WITHIN_ONE_LEVEL:.1%} of the values",
        f"a PSNR of at least {variants.MIN_PSNR_DB:g} dB",
    ],
)
def test_numbers_in_the_text_match_the_code(phrase: str) -> None:
    assert phrase in " ".join(prose().split())
