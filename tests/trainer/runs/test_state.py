"""The memory layout of a training state, in memory and on disk."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.trainer.conftest import small_config
from tests.trainer.runs.saved_states import ONE_OF_EACH_KIND, after_steps, new
from trainer.config import AnyConfig
from trainer.runs.state import TrainingState, restore_state, state_to_tensors

WITH_OTHER_OPTIMISERS = ONE_OF_EACH_KIND | {
    "rmsprop": small_config("wgan", "wgan-digits", n_critic=1),
    "sgd": small_config("dcgan", "dcgan-digits", optimizer="sgd"),
}


def moments(state: TrainingState) -> list[tuple[Tensor, str, Tensor]]:
    """Parameter, name and tensor of all that has the shape of its parameter."""
    return [
        (parameter, name, moment)
        for optimizer in state.optimizers.values()
        for parameter, values in optimizer.state.items()
        for name, moment in values.items()
        if isinstance(moment, Tensor) and moment.ndim
    ]


@pytest.mark.parametrize("config", WITH_OTHER_OPTIMISERS.values(), ids=WITH_OTHER_OPTIMISERS)
def test_stored_tensors_are_contiguous(config: AnyConfig) -> None:
    trained = after_steps(config)
    assert any(
        not parameter.is_contiguous()
        for network in trained.state.networks.values()
        for parameter in network.parameters()
    )  # otherwise the next assertion is trivial
    assert all(tensor.is_contiguous() for tensor in state_to_tensors(trained.state).values())


@pytest.mark.parametrize("config", WITH_OTHER_OPTIMISERS.values(), ids=WITH_OTHER_OPTIMISERS)
def test_restored_moments_have_the_memory_layout_of_their_parameter(config: AnyConfig) -> None:
    trained, restored = after_steps(config), new(config)
    tensors = state_to_tensors(trained.state)
    layouts = {
        f"{name}.{key}": parameter.stride()
        for name, network in restored.state.networks.items()
        for key, parameter in network.named_parameters()
    }
    restore_state(restored.state, tensors)
    for name, network in restored.state.networks.items():
        for key, parameter in network.named_parameters():
            assert parameter.stride() == layouts[f"{name}.{key}"]
    expected, actual = moments(trained.state), moments(restored.state)
    assert [name for _, name, _ in expected] == [name for _, name, _ in actual]
    assert bool(actual) == (not isinstance(next(iter(restored.state.optimizers.values())), torch.optim.SGD))
    for (_, _, before), (owner, _, after) in zip(expected, actual, strict=True):
        assert torch.equal(before, after)
        assert after.stride() == owner.stride() == before.stride()
        assert after.data_ptr() != before.data_ptr()
    assert state_to_tensors(restored.state).keys() == tensors.keys()
    for name, tensor in state_to_tensors(restored.state).items():
        assert torch.equal(tensor, tensors[name]), name
