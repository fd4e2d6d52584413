from __future__ import annotations

import json
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image

from ganserve.grids import fitting_grid
from ganserve.latents import latents_from_seed
from ganserve.v1 import generator_pb2 as pb
from tests.client.fake_server import FakeServer, model, pixels_of
from tests.client.test_main import error_of, on_a_terminal, run

UNIMPLEMENTED = (grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
CARD = {
    "name": "dcgan",
    "version": 3,
    "training": {"preset": "dcgan-digits", "step": 300, "sliced_wasserstein_distance": 29.114},
    "files": {"model.onnx": "ab" * 32},
    "licence": "[red]CC0",
}


@pytest.fixture
def described(server: FakeServer) -> FakeServer:
    server.description = pb.DescribeModelResponse(
        model=model(), card=json.dumps(CARD), file_bytes={"model.onnx": 1234}, precision="fp32", ready=True
    )
    return server


def test_a_model_is_described_in_sections(described: FakeServer) -> None:
    result = run("info", "dcgan", address=described.address)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "dcgan, version 3",
        "  kind      dcgan, architecture dcgan",
        "  takes     latents of 6 numbers, normal",
        "  gives     images of 3x4 pixels (width x height), 1 channel",
        "  data set  digits",
        "",
        "serving",
        "  runs on    cpu, onnx",
        "  precision  fp32",
        "  ready      yes",
        "  a request  at most 1024 rows",
        "",
        "training",
        "  preset  dcgan-digits",
        "  steps   300",
        "",
        "metrics of this checkpoint",
        "  SWD  29.11  sliced Wasserstein distance x 1000 to real images of the same size, smaller is better",
        "",
        "files, and their SHA-256",
        "  model.onnx  1.2 kB  " + "ab" * 32,
        "",
        "more",
        "  licence  [red]CC0",
    ]


def test_json_is_one_object_with_the_unchanged_card(described: FakeServer) -> None:
    result = run("info", "dcgan", "--json", address=described.address)
    told = json.loads(result.stdout)
    assert (result.exit_code, result.stderr) == (0, "")
    assert set(told) == {"model", "card", "file_bytes", "precision", "ready"}
    assert told["card"] == CARD
    assert (told["model"]["name"], told["model"]["latent_dim"]) == ("dcgan", 6)
    assert (told["file_bytes"], told["precision"], told["ready"]) == ({"model.onnx": 1234}, "fp32", True)


def test_a_version_can_be_named(server: FakeServer) -> None:
    server.models = [model(version=1), model(version=2)]
    assert run("info", "dcgan", "--version", "1", address=server.address).stdout.startswith("dcgan, version 1\n")
    assert run("info", "dcgan", address=server.address).stdout.startswith("dcgan, version 2\n")


def test_an_older_server_gets_a_note_and_its_listed_fields_are_shown(server: FakeServer) -> None:
    server.models = [model(version=1), model(version=2)]
    server.describe_failures.extend([UNIMPLEMENTED] * 2)
    result = run("info", "dcgan", address=server.address)
    assert result.exit_code == 0
    assert result.stderr == "the server is older than this client and does not send the model's card\n"
    assert result.stdout.splitlines()[:2] == ["dcgan, version 2", "  kind      dcgan, architecture dcgan"]
    assert "precision" not in result.stdout
    as_json = run("info", "dcgan", "--version", "1", "--json", address=server.address)
    assert as_json.exit_code == 0
    told = json.loads(as_json.stdout)
    assert told.pop("model")["version"] == 1
    assert told == {"card": None, "file_bytes": None, "precision": None, "ready": None}


@pytest.mark.parametrize("failures", [[], [UNIMPLEMENTED]], ids=["", "older"])
def test_an_unknown_model_exits_with_2(server: FakeServer, failures: list[tuple[grpc.StatusCode, str]]) -> None:
    server.describe_failures.extend(failures)
    result = run("info", "nope", address=server.address)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no model 'nope' is served" in error_of(result)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'MODEL'"),
        (["dcgan", "more"], "unexpected extra argument"),
        ([""], "model: must be a name"),
        (["a\nb"], "model: must be a name"),
        (["dcgan", "--version", "0"], "'--version': must be a whole number in 1 .."),
    ],
)
def test_a_mistake_prints_a_one_line_error(arguments: list[str], message: str) -> None:
    result = run("info", *arguments)
    assert result.exit_code == 2
    assert message in error_of(result)


def test_an_invalid_card_is_a_server_fault(described: FakeServer) -> None:
    assert described.description is not None
    described.description.card = '{"name": "\x1b[2J"}'
    result = run("info", "dcgan", address=described.address)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "the server's response is invalid" in error_of(result)


def test_a_terminal_gets_fitting_sections_and_server_text_is_not_markup(described: FakeServer, tmp_path: Path) -> None:
    exit_code, shown = on_a_terminal(["info", "dcgan", "--address", described.address], tmp_path)
    assert exit_code == 0, shown
    assert "[red]CC0" in shown
    assert "ab" * 20 in shown
    assert all(len(line) < 130 for line in shown.splitlines())  # the terminal's 100, and the escape codes for bold text


def test_license_and_intended_use_follow_the_data_set(described: FakeServer) -> None:
    assert described.description is not None
    card = CARD | {"license": "CC-BY-4.0", "intended_use": "Teaching. " * 30}
    described.description.card = json.dumps(card)
    lines = run("info", "dcgan", address=described.address).stdout.splitlines()
    assert lines[4:7] == [
        "  data set      digits",
        "  license       CC-BY-4.0",
        "  intended use  " + ("Teaching. " * 30).rstrip(),
    ]


def test_the_first_images_are_saved_and_shown(described: FakeServer, here: Path) -> None:
    result = run("info", "dcgan", "--preview", "--out", "sample.png", address=described.address)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "▀" in result.stdout
    assert result.stdout.splitlines()[-1] == "sample.png: the first images of dcgan:3"
    images = pixels_of(latents_from_seed(0, 16, 6), 4, 3, 1)
    with Image.open(here / "sample.png") as saved:
        np.testing.assert_array_equal(np.asarray(saved), np.asarray(fitting_grid(images)))


def test_the_sample_of_a_translator_is_refused(server: FakeServer, here: Path) -> None:
    result = run("info", "a2b", "--out", "sample.png", address=server.address)
    assert result.exit_code == 2
    assert error_of(result).endswith(
        "makes images of other images only, so it has no sample; use 'ganclient translate'"
    )
    assert list(here.iterdir()) == []


def test_preview_and_json_exclude_each_other() -> None:
    assert "give one of them" in error_of(run("info", "dcgan", "--preview", "--json"))
