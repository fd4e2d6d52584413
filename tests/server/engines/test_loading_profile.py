"""What `--profile` changes of the engines that a version is loaded with."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from ganserve.bundle import ONNX_FILE, OUTPUT_PIXELS, Card, read_card
from server.config import Backend, Device, ServerConfig
from server.engines.base import Engine, usable_cores
from server.engines.layouts import automatic_layout
from server.engines.loading import load_engine, load_instances, load_large_instances
from server.engines.profile import Limits, Machine, Profile, TunedModel, processor_name, write_profile
from server.errors import StartupError
from server.scheduling.instances import GroupLimits, Instance, InstanceGroups, LoadedInstances
from tests.server.tiny_bundles import tiny_pixels

LIMITS = Limits(inline_rows=2, min_share_rows=3, wide_rows=0, large_rows=None, max_batch_rows=7)


@pytest.fixture
def folder(repository: Path) -> Path:
    return repository / "tiny" / "1"


@pytest.fixture
def card(folder: Path) -> Card:
    return read_card(folder)


def tuned(card: Card, **changes: Any) -> TunedModel:
    whole = TunedModel(card.files[ONNX_FILE], "cpu", 1, usable_cores(), "fp32", LIMITS)
    return msgspec.structs.replace(whole, **changes)


@pytest.fixture
def profiled(tmp_path: Path, config: ServerConfig) -> Any:
    """Writes a profile of one model, and returns a config that uses it."""

    def write(
        model: TunedModel, name: str = "tiny", cores: int | None = None, processor: str | None = None
    ) -> ServerConfig:
        machine = Machine(processor or processor_name(), cores or usable_cores(), "1.23")
        write_profile(tmp_path / "profile.json", Profile(machine=machine, models={name: model}, measured={}))
        return replace(config, profile=tmp_path / "profile.json")

    return write


def limits_of(loaded: LoadedInstances) -> tuple[int, int, int]:
    limits = loaded.groups.limits
    return limits.inline_rows, limits.min_share_rows, limits.wide_rows


def test_a_version_is_loaded_as_the_profile_says(folder: Path, card: Card, profiled: Any) -> None:
    loaded = load_instances(folder, card, profiled(tuned(card)))
    (instance,) = loaded.groups.instances
    assert (instance.group, instance.cores, instance.max_rows) == ("narrow", usable_cores(), 7)
    assert limits_of(loaded) == (2, 3, 0)
    latents = np.random.default_rng(1).standard_normal((5, 4), dtype=np.float32)
    outputs = instance.run(latents, frozenset({OUTPUT_PIXELS}))
    assert np.abs(outputs[OUTPUT_PIXELS].astype(int) - tiny_pixels(latents)).max() <= 1


@pytest.mark.skipif(usable_cores() < 2, reason="one core has no wide instance")
@pytest.mark.parametrize(("wide_rows", "groups"), [(0, ["narrow", "narrow"]), (1, ["narrow", "narrow", "wide"])])
def test_a_wide_engine_is_loaded_only_if_the_profile_uses_it(
    folder: Path, card: Card, profiled: Any, wide_rows: int, groups: list[str]
) -> None:
    limits = msgspec.structs.replace(LIMITS, wide_rows=wide_rows)
    loaded = load_instances(folder, card, profiled(tuned(card, engines=2, threads=1, limits=limits)))
    assert [instance.group for instance in loaded.groups.instances] == groups
    assert limits_of(loaded) == (2, 3, wide_rows)


def test_batches_never_exceed_the_flag_whatever_the_profile_says(folder: Path, card: Card, profiled: Any) -> None:
    config = replace(profiled(tuned(card)), max_batch_size=3)
    assert [instance.max_rows for instance in load_instances(folder, card, config).groups.instances] == [3]


def is_automatic(groups: InstanceGroups, config: ServerConfig) -> bool:
    expected = automatic_layout(usable_cores(), config.engines)
    return groups.concurrency == expected.engines and groups.full_rows == config.max_batch_size


@pytest.mark.parametrize(
    ("changes", "name", "reason"),
    [
        ({"sha256": "0" * 64}, "tiny", "this graph was not measured"),
        ({}, "another", "this graph was not measured"),
        ({"device": "cuda:0"}, "tiny", "it was measured on cuda:0"),
    ],
)
def test_a_version_that_the_profile_does_not_know_is_loaded_automatically_and_the_log_says_so(
    folder: Path,
    card: Card,
    profiled: Any,
    changes: dict[str, Any],
    name: str,
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = profiled(tuned(card, **changes), name)
    with caplog.at_level(logging.INFO):
        loaded = load_instances(folder, card, config)
    assert is_automatic(loaded.groups, config)
    (message,) = [message for message in caplog.messages if "--profile" in message]
    assert message == f"tiny:1: --profile {config.profile} is not used for it ({reason}): the choice is automatic"


def test_engines_that_are_asked_for_go_before_the_profile(
    folder: Path, card: Card, profiled: Any, caplog: pytest.LogCaptureFixture
) -> None:
    config = replace(profiled(tuned(card)), engines=2)
    with caplog.at_level(logging.INFO):
        assert is_automatic(load_instances(folder, card, config).groups, config)
    assert "it says 1 engines, and --engines 2 goes before it" in caplog.text


def test_a_profile_of_another_number_of_cores_is_not_used(
    folder: Path, card: Card, profiled: Any, caplog: pytest.LogCaptureFixture
) -> None:
    config = profiled(tuned(card), cores=usable_cores() + 1)
    assert is_automatic(load_instances(folder, card, config).groups, config)
    (record,) = [record for record in caplog.records if "--profile" in record.getMessage()]
    assert record.levelno == logging.WARNING


def test_a_profile_of_another_processor_is_used_with_a_warning(
    folder: Path, card: Card, profiled: Any, caplog: pytest.LogCaptureFixture
) -> None:
    config = profiled(tuned(card), processor="an abacus")
    assert (
        limits_of(load_instances(folder, card, config)) == limits_of(load_instances(folder, card, config)) == (2, 3, 0)
    )
    (record,) = [record for record in caplog.records if "--profile" in record.getMessage()]
    assert record.levelno == logging.WARNING
    assert "was measured on an abacus" in record.getMessage()


def test_engines_come_back_as_they_were_although_the_profile_has_gone(folder: Path, card: Card, profiled: Any) -> None:
    config = profiled(tuned(card))
    before = load_instances(folder, card, config)
    config.profile.unlink()
    after = load_instances(folder, card, config)
    assert (len(after.groups.instances), limits_of(after)) == (len(before.groups.instances), limits_of(before))


def test_a_profile_that_is_none_keeps_the_server_from_starting(folder: Path, card: Card, config: ServerConfig) -> None:
    missing = folder / "no-profile.json"
    with pytest.raises(StartupError, match=r"^--profile: .*no-profile\.json cannot be read"):
        load_instances(folder, card, replace(config, profile=missing))


def test_a_profile_and_torchscript_exclude_each_other(folder: Path, card: Card, profiled: Any) -> None:
    with pytest.raises(StartupError, match="--profile: is about --backend onnx"):
        load_instances(folder, card, replace(profiled(tuned(card)), backend="torchscript"))


def test_bf16_that_never_pays_is_not_even_loaded(folder: Path, card: Card, profiled: Any) -> None:
    config = replace(profiled(tuned(card)), precision="bf16")
    with pytest.raises(StartupError, match=r"^--profile: .*profile\.json says that bf16 is no faster here$"):
        load_large_instances(folder, card, config)
    assert load_instances(folder, card, config).groups.limits.large_rows > 1 << 16


class Bf16:
    """Stands for PyTorch: notes what is to be loaded in bf16, and gives an engine of fp32."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[dict[str, Any]] = []
        self._monkeypatch = monkeypatch

    def load(self, folder: Path, card: Card, config: ServerConfig) -> list[Instance]:
        def load(folder: Path, card: Card, backend: Backend, device: Device, **how: Any) -> Engine:
            self.asked.append({"backend": backend, **how})
            return load_engine(folder, card, "onnx", device, threads=how["threads"])

        with self._monkeypatch.context() as patched:
            patched.setattr("server.engines.loading.load_engine", load)
            return load_large_instances(folder, card, config)


@pytest.fixture
def bf16(monkeypatch: pytest.MonkeyPatch) -> Bf16:
    return Bf16(monkeypatch)


def test_bf16_that_pays_gets_batches_as_large_as_the_profile_says(
    folder: Path, card: Card, profiled: Any, bf16: Bf16
) -> None:
    limits = msgspec.structs.replace(LIMITS, large_rows=8, large_batch_rows=16)
    config = replace(profiled(tuned(card, precision="bf16", limits=limits)), precision="bf16")
    groups = load_instances(folder, card, config).groups
    assert groups.limits.large_rows == 8
    assert groups.full_rows == 7
    (instance,) = bf16.load(folder, card, config)
    assert (instance.group, instance.max_rows, instance.cores) == ("bf16", 16, usable_cores())
    assert bf16.asked == [{"backend": "torchscript", "precision": "bf16", "threads": usable_cores()}]
    groups.add_large([instance])
    assert groups.full_rows == 16


def test_bf16_batches_never_exceed_the_flag_whatever_the_profile_says(
    folder: Path, card: Card, profiled: Any, bf16: Bf16
) -> None:
    limits = msgspec.structs.replace(LIMITS, large_rows=2, large_batch_rows=16)
    config = replace(profiled(tuned(card, precision="bf16", limits=limits)), precision="bf16", max_batch_size=3)
    assert [instance.max_rows for instance in bf16.load(folder, card, config)] == [3]


@pytest.mark.skipif(usable_cores() < 2, reason="one core has one instance")
@pytest.mark.parametrize("engines", [None, 1, 2, 3])
@pytest.mark.parametrize("with_profile", [True, False])
def test_there_is_one_bf16_instance_beside_each_narrow_one_of_as_many_threads(
    folder: Path, card: Card, profiled: Any, config: ServerConfig, bf16: Bf16, engines: int | None, with_profile: bool
) -> None:
    limits = msgspec.structs.replace(LIMITS, large_rows=4, large_batch_rows=16)
    if with_profile:
        config = profiled(tuned(card, engines=1, threads=1, precision="bf16", limits=limits))
    config = replace(config, engines=engines, precision="bf16")
    narrow = [
        instance for instance in load_instances(folder, card, config).groups.instances if instance.group == "narrow"
    ]
    instances = bf16.load(folder, card, config)
    assert [instance.cores for instance in instances] == [instance.cores for instance in narrow]
    uses_profile = with_profile and engines in (None, 1)
    assert len(instances) == (1 if uses_profile else automatic_layout(usable_cores(), engines).engines)
    assert {instance.max_rows for instance in instances} == {16 if uses_profile else config.max_batch_size}
    groups = InstanceGroups(narrow, limits=GroupLimits(large_rows=4))
    groups.add_large(instances)
    shares = groups.take(4 * len(narrow))
    assert [(share.instance.group, share.rows) for share in shares] == [("bf16", 4)] * len(narrow)
