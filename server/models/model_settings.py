"""The settings of a model that an operator writes into its config.pbtxt, a Triton ModelConfig.

    version_policy { latest { num_versions: 2 } }
    parameters { key: "version_label.stable" value { string_value: "3" } }

The other fields describe the model for Triton; here, its card does that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as config_pb

from ganserve.bundle import TRITON_CONFIG_FILE, BundleError, check_name
from ganserve.files import read_regular_file
from server.limits import quote
from server.models.version_policy import VersionPolicy

LABEL_PREFIX: Final = "version_label."
LABEL: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")  # never a number

_MAX_CONFIG_BYTES: Final = 1 << 20
_VERSION: Final = re.compile(r"[1-9][0-9]{0,18}")


@dataclass(frozen=True)
class ModelSettings:
    """Which versions of a model are served, and the labels of versions."""

    policy: VersionPolicy = field(default_factory=VersionPolicy)
    labels: Mapping[str, int] = field(default_factory=dict)

    def labels_of(self, version: int) -> list[str]:
        """The labels that stand for a version."""
        return [label for label, labelled in self.labels.items() if labelled == version]


DEFAULT_SETTINGS: Final = ModelSettings()


def read_settings(repository: Path, name: str) -> ModelSettings:
    """Reads the settings of a model; the default ones if it has no config.pbtxt.

    Raises:
        BundleError: the file cannot be read, or a setting is invalid.
    """
    path = repository / check_name(name) / TRITON_CONFIG_FILE
    try:
        text = read_regular_file(path, _MAX_CONFIG_BYTES)
    except FileNotFoundError:
        return DEFAULT_SETTINGS
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); fix or remove it") from error
    config = config_pb.ModelConfig()
    try:
        text_format.Parse(text, config)
    except (text_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BundleError(f"{path}: not a valid ModelConfig ({reason}); fix it") from error
    return ModelSettings(_policy(config), _labels(config, path))


def _policy(config: config_pb.ModelConfig) -> VersionPolicy:
    policy = config.version_policy
    match policy.WhichOneof("policy_choice"):
        case "specific":
            return VersionPolicy(None, frozenset(policy.specific.versions))
        case "all":
            return VersionPolicy(None)
        case _:
            return VersionPolicy(max(1, policy.latest.num_versions))


def _labels(config: config_pb.ModelConfig, path: Path) -> dict[str, int]:
    labels: dict[str, int] = {}
    for key, value in sorted(config.parameters.items()):
        if not key.startswith(LABEL_PREFIX):
            continue
        label, version = key.removeprefix(LABEL_PREFIX), value.string_value
        if not LABEL.fullmatch(label):
            raise BundleError(
                f"{path}: version label {quote(label)}: use 1 to 64 letters, digits, '.', '_' or '-', a letter first"
            )
        if not _VERSION.fullmatch(version):
            raise BundleError(f"{path}: version label {label} is {quote(version)}: write a version number")
        labels[label] = int(version)
    return labels
