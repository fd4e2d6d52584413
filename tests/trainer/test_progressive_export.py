from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import nn

from tests.trainer.models.test_progressive import (
    NAMES,
    build_generator,
    latents,
    network_config,
    used,
    with_random_biases,
)
from trainer.models.progressive import plain


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("resolution", "alpha"), [(4, 1.0), (16, 1.0), (16, 0.3), (32, 1.0)])
def test_the_plain_generator_makes_the_same_images_with_fewer_layers(name: str, resolution: int, alpha: float) -> None:
    generator = build_generator(network_config(name))
    with_random_biases(generator)
    generator.set_growth(resolution, alpha)
    random_state = torch.get_rng_state()
    exported = plain(generator)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not exported.training
    assert not any(parameter.requires_grad for parameter in exported.parameters())
    kinds = {type(layer) for layer in exported.modules() if next(layer.parameters(recurse=False), None) is not None}
    assert kinds == {nn.Conv2d, nn.ConvTranspose2d}
    inputs = latents(7)
    torch.testing.assert_close(exported(inputs), generator(inputs), rtol=1e-5, atol=1e-5)
    state = exported.state_dict()
    assert set(state) < set(generator.state_dict())  # no growth here uses every way to an image
    assert set(state) == used(generator, inputs)
    with torch.no_grad():
        for parameter in exported.parameters():
            parameter.zero_()
    assert generator(inputs).any()  # the copy shares no memory


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("alpha", [0.3, 1.0])
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "ignore:`torch.jit:FutureWarning")
def test_the_plain_generator_can_be_traced_for_any_batch(name: str, alpha: float) -> None:
    generator = build_generator(network_config(name))
    generator.set_growth(16, alpha)
    network = plain(generator)
    traced = torch.jit.trace(network, (latents(2),), check_trace=False)  # type: ignore[no-untyped-call]
    for rows in (1, 2, 7):
        inputs = latents(rows)
        torch.testing.assert_close(traced(inputs), network(inputs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "alpha"), [("pggan", 0.3), ("pggan", 1.0), ("pggan-anime128", 1.0)])
@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.`:FutureWarning")
def test_the_plain_generator_can_be_exported_to_onnx_for_any_batch(name: str, alpha: float, tmp_path: Path) -> None:
    generator = build_generator(network_config(name, size=16))
    generator.set_growth(8, alpha)
    network = plain(generator)
    program = torch.onnx.export(
        network,
        (latents(2),),
        dynamo=True,
        verbose=False,
        input_names=["latents"],
        output_names=["images"],
        dynamic_shapes=({0: torch.export.Dim("rows")},),
        opset_version=18,
    )
    assert program is not None
    program.save(str(tmp_path / "model.onnx"))
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    for rows in (1, 2, 7):
        inputs = latents(rows)
        (images,) = session.run(None, {"latents": inputs.numpy()})
        torch.testing.assert_close(torch.from_numpy(images), network(inputs), rtol=1e-5, atol=1e-5)
