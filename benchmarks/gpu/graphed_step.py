"""Replaces the training step of a GAN by replays of CUDA graphs: an experiment, to see what it would gain."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from typing import Final, NamedTuple
from unittest import mock

import torch
from torch import Tensor

from benchmarks.gpu.step_graph import SideStream, StepGraph
from trainer.config import GanConfig
from trainer.precision import autocast
from trainer.training.gan import GanTraining
from trainer.training.gan_step import GanState, StepResult, train_step

_WARM_UPS: Final = 3  # of each phase
_LATE: Final = 1_000_000  # generator steps after which the decay of the average is constant


class Phase(NamedTuple):
    """What differs between steps; each phase has its own graph."""

    updates_generator: bool
    has_penalty: bool  # R1 and R2


class GraphedStep:
    """Does what `gan_step.train_step` does, for batches of one size and one size of images.

    Capturing leaves weights, optimisers and random states as they were. The one difference to the eager step: the decay
    of the averaged generator is constant from the start.

    Args:
        training: before its first step.
        config: its settings.

    Raises:
        ValueError: the recipe has steps that are not supported here.
    """

    def __init__(self, training: GanTraining, config: GanConfig) -> None:
        if config.generator_first or config.warm_start:
            raise ValueError("a recipe with generator_first or warm_start has no fixed cycle of phases")
        state = training.state
        self._config = config
        self._result_names: dict[Phase, list[str]] = {}  # of the results that are not None
        size = config.network.size_at(training.output_size)
        shape = (training.batch_size, config.network.channels, *size)
        self._reals = torch.zeros(shape, device=state.device).contiguous(memory_format=torch.channels_last)
        for optimizer in state.optimizers.values():
            for group in optimizer.param_groups:
                # Its step counters must be on the device; an optimiser reads this at its first step.
                group["capturable"] = state.device.type == "cuda"
        self._graphs = self._capture(state)

    def __call__(self, state: GanState, config: GanConfig, reals: Tensor) -> StepResult:
        """See `trainer.training.gan_step.train_step`."""
        phase = self._phase(state)
        self._reals.copy_(reals)
        values = self._graphs[phase].replay()
        state.critic_steps_since_generator += 1
        if phase.updates_generator:
            state.generator_steps += 1
            state.critic_steps_since_generator = 0
        state.step += 1
        state.images_seen += len(reals)
        named: dict[str, Tensor | None] = {field.name: None for field in fields(StepResult)}
        return StepResult(**(named | dict(zip(self._result_names[phase], values.unbind(), strict=True))))  # type: ignore[arg-type]

    def _phase(self, state: GanState) -> Phase:
        config = self._config
        has_penalty = bool(config.r1 or config.r2) and state.step % config.penalty_every == 0
        return Phase(state.critic_steps_since_generator + 1 >= config.n_critic, has_penalty)

    def _capture(self, state: GanState) -> dict[Phase, StepGraph]:
        config = self._config
        has_penalties = {bool(config.r1 or config.r2), bool(config.r1 or config.r2) and config.penalty_every == 1}
        turns = {True, config.n_critic == 1}
        phases = [Phase(turn, penalty) for turn in sorted(turns) for penalty in sorted(has_penalties)]
        before = {name: _copy(network) for name, network in state.networks.items()}
        side = SideStream(state.device)
        devices = [state.device] if state.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            with side():
                for _ in range(_WARM_UPS):
                    for phase in phases:
                        self._compute(state, phase)
            graphs = {phase: StepGraph(partial(self._compute, state, phase), side) for phase in phases}
        for name, network in state.networks.items():
            network.load_state_dict(before[name])  # copies into the memory that the graphs use
        for optimizer in state.optimizers.values():
            for moments in optimizer.state.values():
                for moment in moments.values():
                    moment.zero_()
        return graphs

    def _compute(self, state: GanState, phase: Phase) -> Tensor:
        """One eager step that leaves the counters alone; returns what it measured as one tensor."""
        counters = (state.step, state.images_seen, state.generator_steps, state.critic_steps_since_generator)
        config = self._config
        state.step = 0 if phase.has_penalty else 1
        state.generator_steps = _LATE
        state.critic_steps_since_generator = config.n_critic - 1 if phase.updates_generator else -1
        # Entered for each step: autocast keeps converted weights until its end, and a graph must convert them itself.
        with autocast(config.precision, state.device):
            result = train_step(state, config, self._reals)
        state.step, state.images_seen, state.generator_steps, state.critic_steps_since_generator = counters
        measured = {field.name: getattr(result, field.name) for field in fields(result)}
        known = {name: value for name, value in measured.items() if value is not None}
        self._result_names[phase] = list(known)
        return torch.stack([value.float() for value in known.values()])


@contextmanager
def graphed(training: GanTraining, config: GanConfig) -> Iterator[None]:
    """While entered, the steps of a training are replays."""
    with mock.patch("trainer.training.gan.train_step", GraphedStep(training, config)):
        yield


def _copy(network: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}
