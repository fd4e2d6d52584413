"""Makes the messages of the Open Inference Protocol that describe models: metadata, config and statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tritonclient.grpc import model_config_pb2 as config_pb
from tritonclient.grpc import service_pb2 as pb

from server.limits import Tensor
from server.models.catalog import ServedModel
from server.models.model_settings import LABEL_PREFIX, ModelSettings
from server.models.version_policy import VersionPolicy
from server.scheduling.queue import DEFAULT_PRIORITY, PRIORITY_LEVELS
from server.statistics import CountedTime

# Triton's names of ganserve's backends.
_PLATFORMS: Final = {"onnx": "onnxruntime_onnx", "torchscript": "pytorch_libtorch"}
_BACKENDS: Final = {"onnx": "onnxruntime", "torchscript": "pytorch"}
_ANY_ROWS: Final = -1


def metadata_message(model: ServedModel, versions: Sequence[ServedModel]) -> pb.ModelMetadataResponse:
    """Returns the names, types and shapes of a model's inputs and outputs; the first axis is the rows.

    Args:
        model: the version to describe.
        versions: all served versions of the model.
    """
    contract = model.contract
    return pb.ModelMetadataResponse(
        name=model.card.name,
        versions=[str(served.card.version) for served in versions],
        platform=_PLATFORMS[model.backend],
        inputs=[_tensor_metadata(contract.input)],
        outputs=[_tensor_metadata(tensor) for tensor in contract.outputs.values()],
    )


def config_message(model: ServedModel, settings: ModelSettings) -> config_pb.ModelConfig:
    """Returns how a model is served, as Triton's ModelConfig, whose shapes omit the first axis.

    `max_batch_size` is the most rows per batch; a request with more rows is split.
    """
    contract = model.contract
    on_gpu = model.device.startswith("cuda")
    kind = config_pb.ModelInstanceGroup.KIND_GPU if on_gpu else config_pb.ModelInstanceGroup.KIND_CPU
    message = config_pb.ModelConfig(
        name=model.card.name,
        platform=_PLATFORMS[model.backend],
        backend=_BACKENDS[model.backend],
        version_policy=_policy_message(settings.policy),
        max_batch_size=model.max_batch_rows,
        instance_group=[config_pb.ModelInstanceGroup(name=model.card.name, kind=kind, count=1)],
        dynamic_batching=config_pb.ModelDynamicBatching(
            max_queue_delay_microseconds=contract.config.max_queue_delay_us or 0,
            priority_levels=PRIORITY_LEVELS,
            default_priority_level=DEFAULT_PRIORITY,
        ),
    )
    message.input.add(name=contract.input.name, data_type=_config_type(contract.input), dims=contract.input.row_shape)
    for label, version in settings.labels.items():
        message.parameters[f"{LABEL_PREFIX}{label}"].string_value = str(version)
    for tensor in contract.outputs.values():
        message.output.add(name=tensor.name, data_type=_config_type(tensor), dims=tensor.row_shape)
    return message


def statistics_message(model: ServedModel) -> pb.ModelStatistics:
    """Returns the counts and times of a model.

    The compute times of `inference_stats` count the full time of a batch for each request in it.
    """
    now = model.statistics.snapshot()
    return pb.ModelStatistics(
        name=model.card.name,
        version=str(model.card.version),
        last_inference=now.last_inference_ms,
        inference_count=now.inference_count,
        execution_count=now.execution_count,
        inference_stats=pb.InferStatistics(
            success=_duration(now.success),
            fail=_duration(now.fail),
            queue=_duration(now.queue),
            compute_input=_duration(now.compute_input),
            compute_infer=_duration(now.compute_infer),
            compute_output=_duration(now.compute_output),
        ),
        batch_stats=[
            pb.InferBatchStatistics(
                batch_size=batch.rows,
                compute_input=_duration(batch.compute_input),
                compute_infer=_duration(batch.compute_infer),
                compute_output=_duration(batch.compute_output),
            )
            for batch in now.batches
        ],
    )


def _policy_message(policy: VersionPolicy) -> config_pb.ModelVersionPolicy:
    kind = config_pb.ModelVersionPolicy
    if policy.latest is not None:
        return kind(latest=kind.Latest(num_versions=policy.latest))
    if policy.specific is not None:
        return kind(specific=kind.Specific(versions=sorted(policy.specific)))
    return kind(all=kind.All())


def _tensor_metadata(tensor: Tensor) -> pb.ModelMetadataResponse.TensorMetadata:
    shape = (_ANY_ROWS, *tensor.row_shape)
    return pb.ModelMetadataResponse.TensorMetadata(name=tensor.name, datatype=tensor.datatype, shape=shape)


def _config_type(tensor: Tensor) -> int:
    number: int = config_pb.DataType.Value(f"TYPE_{tensor.datatype}")
    return number


def _duration(time: CountedTime) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=time.count, ns=time.total_ns)
