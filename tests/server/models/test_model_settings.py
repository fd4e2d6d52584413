from __future__ import annotations

import os
from pathlib import Path

import pytest

from ganserve.bundle import TRITON_CONFIG_FILE, BundleError
from server.models.model_settings import DEFAULT_SETTINGS, ModelSettings, read_settings
from server.models.version_policy import VersionPolicy
from tests.server.tiny_bundles import publish_tiny_bundle


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    publish_tiny_bundle(tmp_path)
    return tmp_path / "tiny" / TRITON_CONFIG_FILE


def read(config_file: Path) -> ModelSettings:
    return read_settings(config_file.parents[1], "tiny")


def test_the_exported_config_means_the_newest_version(config_file: Path) -> None:
    assert read(config_file) == DEFAULT_SETTINGS == ModelSettings(VersionPolicy(latest=1), {})


def test_a_model_without_a_config_has_the_default_settings(config_file: Path) -> None:
    config_file.unlink()
    assert read(config_file) == DEFAULT_SETTINGS


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("version_policy { latest { num_versions: 3 } }", VersionPolicy(3)),
        ("version_policy: { latest { num_versions: 0 } }", VersionPolicy(1)),
        ("version_policy { specific { versions: [1, 4] } }", VersionPolicy(None, frozenset({1, 4}))),
        ("version_policy { all {} }", VersionPolicy(None)),
        ("version_policy { }", VersionPolicy(1)),
    ],
)
def test_lines_after_the_exported_config_set_the_policy(config_file: Path, text: str, policy: VersionPolicy) -> None:
    with config_file.open("a") as file:
        file.write(text)
    assert read(config_file).policy == policy


def test_labels_are_parameters(config_file: Path) -> None:
    config_file.write_text(
        'parameters { key: "version_label.stable" value { string_value: "3" } }'
        'parameters { key: "version_label.canary" value { string_value: "4" } }'
        'parameters { key: "of_another_program" value { string_value: "x" } }'
    )
    assert read(config_file).labels == {"canary": 4, "stable": 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version_policy {", "not a valid ModelConfig"),
        ("version_polcy { all {} }", 'not a valid ModelConfig .*no field named "version_polcy"'),
        ("a" * ((1 << 20) + 1), r"cannot be read \(larger than 1048576 bytes\)"),
        ("\x00\xff", "not a valid ModelConfig"),
        ("input { " * 5000, "not a valid ModelConfig"),
        ('parameters { key: "version_label.3" value { string_value: "3" } }', "version label '3': use 1 to 64 letters"),
        (
            'parameters { key: "version_label.x" value { string_value: "y" } }',
            "version label x is 'y': write a",
        ),
        ('parameters { key: "version_label.x" }', "version label x is '': write a version number"),
    ],
    ids=lambda text: text[:30],
)
def test_an_invalid_config_is_refused_with_the_reason(config_file: Path, text: str, message: str) -> None:
    config_file.write_text(text, encoding="latin-1")
    with pytest.raises(BundleError, match=f"^{config_file}: {message}") as error:
        read(config_file)
    assert "\n" not in str(error.value)


def test_only_a_regular_file_is_read(config_file: Path) -> None:
    config_file.unlink()
    os.mkfifo(config_file)
    with pytest.raises(BundleError, match="not a regular file"):
        read(config_file)
    config_file.unlink()
    config_file.mkdir()
    with pytest.raises(BundleError, match="cannot be read"):
        read(config_file)
