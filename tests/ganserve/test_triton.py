from __future__ import annotations

from google.protobuf import text_format
from hypothesis import given
from tritonclient.grpc import model_config_pb2

from ganserve.bundle import Card, LatentInput, proven_batch_rows, triton_config
from tests.ganserve.test_card import cards


@given(cards)
def test_triton_parses_the_config_of_any_card(card: Card) -> None:
    config = text_format.Parse(triton_config(card), model_config_pb2.ModelConfig())
    batch_rows = proven_batch_rows(card.input, card.height, card.width)
    assert (config.name, config.platform, config.max_batch_size) == (card.name, "onnxruntime_onnx", batch_rows)
    (taken,) = config.input
    images, pixels = config.output
    if isinstance(card.input, LatentInput):
        assert (taken.name, taken.data_type) == ("latents", model_config_pb2.TYPE_FP32)
        assert list(taken.dims) == [card.input.latent_dim]
    else:
        assert (taken.name, taken.data_type) == ("input_pixels", model_config_pb2.TYPE_UINT8)
        assert list(taken.dims) == [card.input.height, card.input.width, card.input.channels]
    assert (images.name, images.data_type) == ("images", model_config_pb2.TYPE_FP32)
    assert list(images.dims) == [card.channels, card.height, card.width]
    assert (pixels.name, pixels.data_type) == ("pixels", model_config_pb2.TYPE_UINT8)
    assert list(pixels.dims) == [card.height, card.width, card.channels]
    assert config.HasField("dynamic_batching")
