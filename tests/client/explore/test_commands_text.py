from __future__ import annotations

import shlex
from dataclasses import replace

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.__main__ import cli
from client.explore.commands_text import Commands, file_stem
from client.sdk.model_info import ModelInfo, models_from
from ganserve.v1 import generator_pb2 as pb
from tests.client.fake_server import model

[DCGAN] = models_from(pb.ListModelsResponse(models=[model()]))
COMMANDS = Commands(("--address", "127.0.0.1:9"))
NAMES = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20)


def texts(of: ModelInfo) -> list[str]:
    return [
        COMMANDS.grid(of, 9, 2**64 - 1, 3, "a.png"),
        COMMANDS.latents(of, "-a.npy", "a.png"),
        COMMANDS.interpolate(of, "a.npy", 9, True, "a.png"),
        COMMANDS.traverse(of, 8, 0, [5, 3], [-3, 0.25], "a.png"),
        COMMANDS.translate(of, "my picture.png", "out"),
        COMMANDS.animation(of, "a.npy", 20, False, "a.gif"),
    ]


def parsed(text: str) -> dict[str, object]:
    """The flags of a command as click reads them, without running it."""
    program, name, *arguments = shlex.split(text)
    assert program == "ganclient"
    return cli.commands[name].make_context(name, arguments).params


@given(NAMES)
def test_commands_survive_the_shell_and_click(name: str) -> None:
    for text in texts(replace(DCGAN, name=name)):
        flags = parsed(text)
        assert flags["model"] == name
        assert (flags["version"], flags["address"]) == (3, "127.0.0.1:9")


def test_numbers_and_file_names_are_parsed_back(tmp_path: object) -> None:
    grid, latents, interpolate, traverse, translate, animation = map(parsed, texts(DCGAN))
    assert (grid["n"], grid["seed"], grid["columns"]) == (9, 2**64 - 1, 3)
    assert latents["file"] == "./-a.npy"
    assert (interpolate["latents"], interpolate["steps"], interpolate["linear"]) == ("a.npy", 9, True)
    assert (traverse["dims"], traverse["values"], traverse["n"]) == ((5, 3), (-3.0, 0.25), 8)
    assert translate["files_or_folders"] == ("my picture.png",)
    assert translate["resize"] is True
    assert (animation["steps"], animation["linear"], animation["loop"]) == (20, False, True)


def test_the_command_that_starts_the_server_names_its_address() -> None:
    assert COMMANDS.start_server() == "python -m server --models models --address 127.0.0.1:9"
    assert Commands().place == "127.0.0.1:50051"


@given(NAMES)
def test_file_names_are_safe_for_any_model_name(name: str) -> None:
    stem = file_stem(replace(DCGAN, name=name), "picture")
    assert stem.endswith("-3-picture")
    assert stem == shlex.quote(stem)
    assert not stem.startswith((".", "-"))
    assert "/" not in stem


def test_the_parser_of_these_tests_refuses_invalid_commands() -> None:
    with pytest.raises(click.UsageError):
        parsed("ganclient grid --model dcgan --n 0")
