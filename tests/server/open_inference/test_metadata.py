from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from tritonclient.grpc import model_config_pb2 as config_pb

from ganserve.bundle import Card
from server.models.catalog import ServedModel
from server.models.model_settings import DEFAULT_SETTINGS, ModelSettings
from server.models.version_policy import VersionPolicy
from server.open_inference.metadata import config_message, metadata_message, statistics_message
from server.statistics import BatchTimes
from tests.server.open_inference.inference_requests import FakeBatcher, served
from tests.server.tiny_cards import GENERATOR, TRANSLATOR


def model_of(card: Card, **limits: Any) -> ServedModel:
    batcher: Any = FakeBatcher(card)
    batcher.groups = SimpleNamespace(full_rows=16)
    return served(card, batcher, **limits)


def described(model: ServedModel) -> Any:
    return metadata_message(model, [model])


def test_metadata_lists_all_served_versions() -> None:
    newer = msgspec.structs.replace(GENERATOR, version=4)
    model = model_of(GENERATOR)
    assert list(metadata_message(model, [model, model_of(newer)]).versions) == ["3", "4"]


@pytest.mark.parametrize(
    ("policy", "choice", "numbers"),
    [
        (VersionPolicy(2), "latest", 2),
        (VersionPolicy(None, frozenset({5, 3})), "specific", [3, 5]),
        (VersionPolicy(None), "all", None),
    ],
)
def test_the_config_has_the_version_policy_and_the_labels(policy: VersionPolicy, choice: str, numbers: Any) -> None:
    config = config_message(model_of(GENERATOR), ModelSettings(policy, {"stable": 3}))
    assert config.version_policy.WhichOneof("policy_choice") == choice
    chosen = {"latest": config.version_policy.latest.num_versions, "specific": config.version_policy.specific.versions}
    assert choice == "all" or chosen[choice] == numbers
    assert config.parameters["version_label.stable"].string_value == "3"


def test_metadata_shapes_include_the_row_axis() -> None:
    generator, translator = described(model_of(GENERATOR)), described(model_of(TRANSLATOR))
    assert (generator.name, list(generator.versions), generator.platform) == ("tiny", ["3"], "onnxruntime_onnx")
    assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in generator.outputs] == [
        ("images", "FP32", [-1, 3, 4, 6]),
        ("pixels", "UINT8", [-1, 4, 6, 3]),
    ]
    assert [
        (tensor.name, tensor.datatype, list(tensor.shape)) for tensor in (*generator.inputs, *translator.inputs)
    ] == [
        ("latents", "FP32", [-1, 4]),
        ("input_pixels", "UINT8", [-1, 4, 6, 3]),
    ]


def test_config_shapes_omit_the_row_axis() -> None:
    config = config_message(model_of(GENERATOR, max_queue_delay_us=250), DEFAULT_SETTINGS)
    assert (config.name, config.platform, config.backend) == ("tiny", "onnxruntime_onnx", "onnxruntime")
    assert config.max_batch_size == 16
    assert [(tensor.name, tensor.data_type, list(tensor.dims)) for tensor in (*config.input, *config.output)] == [
        ("latents", config_pb.TYPE_FP32, [4]),
        ("images", config_pb.TYPE_FP32, [3, 4, 6]),
        ("pixels", config_pb.TYPE_UINT8, [4, 6, 3]),
    ]
    assert config.dynamic_batching.max_queue_delay_microseconds == 250
    assert (config.dynamic_batching.priority_levels, config.dynamic_batching.default_priority_level) == (3, 2)
    assert [group.kind for group in config.instance_group] == [config_pb.ModelInstanceGroup.KIND_CPU]


def test_a_torchscript_model_on_a_gpu_has_the_matching_platform_and_kind() -> None:
    model = replace(model_of(GENERATOR), backend="torchscript", device="cuda:0")
    assert described(model).platform == "pytorch_libtorch"
    config = config_message(model, DEFAULT_SETTINGS)
    assert (config.platform, config.backend) == ("pytorch_libtorch", "pytorch")
    assert config.instance_group[0].kind == config_pb.ModelInstanceGroup.KIND_GPU


def test_statistics_count_a_batch_for_each_request_in_it() -> None:
    model = model_of(GENERATOR)
    model.statistics.batch_computed(BatchTimes(5, 8, 0.001, 0.002, 0.003, "narrow", 1, requests=2))
    message = statistics_message(model)
    assert (message.name, message.version) == ("tiny", "3")
    assert (message.inference_count, message.execution_count) == (5, 1)
    totals, (batch,) = message.inference_stats, message.batch_stats
    assert (totals.compute_infer.count, totals.compute_infer.ns) == (2, 4_000_000)
    assert (batch.batch_size, batch.compute_infer.count, batch.compute_infer.ns) == (5, 1, 2_000_000)
    assert (batch.compute_input.ns, batch.compute_output.ns) == (1_000_000, 3_000_000)
