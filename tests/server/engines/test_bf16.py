"""Instances in bfloat16 that accompany those in float32."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ganserve.bundle import BundleError, Card, Fidelity, read_card
from ganserve.machine import usable_cores
from server.config import Backend, Device, ServerConfig
from server.engines.base import Engine
from server.engines.bf16 import LARGE_ROWS, has_bf16, load_bf16_instances
from server.engines.layouts import automatic_layout
from server.engines.loading import load_engine, load_instances
from server.scheduling.instances import InstanceGroups


@pytest.fixture
def folder(repository: Path) -> Path:
    return repository / "tiny" / "1"


@pytest.mark.parametrize(
    ("published", "torch", "expected"), [(True, True, True), (False, True, False), (True, False, False)]
)
def test_a_version_has_bf16_if_it_was_published_and_torch_is_installed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, published: bool, torch: bool, expected: bool
) -> None:
    monkeypatch.setattr("server.engines.bf16.importlib.util.find_spec", lambda _: object() if torch else None)
    fidelity = Fidelity(images=1, within_one_level=1.0, largest_level_difference=0, psnr_db=60.0, published=published)
    card = read_card(folder)
    assert has_bf16(msgspec.structs.replace(card, variants={"bf16": fidelity})) == expected
    assert not has_bf16(card)


@pytest.mark.parametrize("engines", [None, 1, 3])
def test_each_narrow_instance_has_a_bf16_instance_with_as_many_threads(
    folder: Path, config: ServerConfig, monkeypatch: pytest.MonkeyPatch, engines: int | None
) -> None:
    config, card = replace(config, engines=engines, precision="bf16", max_batch_size=16), read_card(folder)
    loaded = load_instances(folder, card, config).groups.instances
    narrow = [instance for instance in loaded if instance.group == "narrow"]
    asked: list[dict[str, Any]] = []

    def load(folder: Path, card: Card, backend: Backend, device: Device, **how: Any) -> Engine:
        asked.append({"backend": backend, **how})
        return load_engine(folder, card, "onnx", device, threads=how["threads"])  # replaces PyTorch

    monkeypatch.setattr("server.engines.loading.load_engine", load)
    instances = load_bf16_instances(folder, card, config)
    threads = automatic_layout(usable_cores(), engines).threads
    assert {(how["backend"], how["precision"], how["threads"]) for how in asked} == {("torchscript", "bf16", threads)}
    assert [(instance.group, instance.cores, instance.max_rows) for instance in instances] == [
        ("bf16", instance.cores, 16) for instance in narrow
    ]
    groups = InstanceGroups(narrow)
    groups.add_large(instances, LARGE_ROWS)
    shares = groups.take(LARGE_ROWS * len(narrow))
    assert [(share.instance.group, share.rows) for share in shares] == [("bf16", LARGE_ROWS)] * len(narrow)


def test_a_version_without_bf16_says_how_to_export_it(folder: Path, config: ServerConfig) -> None:
    with pytest.raises(BundleError, match=r"has no bf16 variant; export it again with --bf16$"):
        load_bf16_instances(folder, read_card(folder), config)
