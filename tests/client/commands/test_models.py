from __future__ import annotations

import json
from pathlib import Path

from ganserve.v1 import generator_pb2 as pb
from tests.client.fake_server import FakeServer, model, translator
from tests.client.test_main import on_a_terminal, run


def test_models_are_plain_text_in_a_pipe(server: FakeServer) -> None:
    imported = model("imported", 12, kind="", dataset="", channels=3, width=128, device="cuda:0")
    of_the_future = model("sounds", 2, task=7, latent_dim=0, channels=0)
    gray = translator(input_image=pb.ImageShape(channels=1, height=8, width=9))
    server.models = [model(), imported, gray, of_the_future]
    result = run("models", address=server.address)
    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["name", "version", "kind", "dataset", "input", "image", "device", "backend"],
        ["dcgan", "3", "dcgan", "digits", "6", "3x4x1", "cpu", "onnx"],
        ["imported", "12", "-", "-", "6", "128x4x3", "cuda:0", "onnx"],
        ["a2b", "5", "cyclegan", "photos", "9x8x1", "3x4x3", "cpu", "onnx"],
        ["sounds", "2", "dcgan", "digits", "-", "-", "cpu", "onnx"],
    ]


def test_models_as_json_have_every_field(server: FakeServer) -> None:
    server.models = [model()]
    result = run("models", "--json", address=server.address)
    assert json.loads(result.stdout) == [
        {
            "name": "dcgan",
            "version": 3,
            "kind": "dcgan",
            "architecture": "dcgan",
            "dataset": "digits",
            "task": "generate",
            "latent_dim": 6,
            "latent_distribution": "normal",
            "input_channels": 0,
            "input_height": 0,
            "input_width": 0,
            "channels": 1,
            "height": 4,
            "width": 3,
            "device": "cpu",
            "backend": "onnx",
            "max_request_rows": 1024,
            "max_request_bytes": 0,
            "version_labels": [],
            "is_default": False,
        }
    ]


def test_an_empty_server_gets_a_note(server: FakeServer) -> None:
    server.models = []
    table, as_json = run("models", address=server.address), run("models", "--json", address=server.address)
    assert (table.exit_code, table.stdout) == (0, "")
    assert table.stderr == f"no models are served at {server.address}\n"
    assert json.loads(as_json.stdout) == []


def test_a_terminal_gets_a_table_and_server_text_is_not_markup(server: FakeServer, tmp_path: Path) -> None:
    server.models = [model(dataset="[red]digits")]
    exit_code, shown = on_a_terminal(["models", "--address", server.address], tmp_path)
    assert exit_code == 0, shown
    assert "[red]digits" in shown
    assert "│" in shown
