"""Reads files of weights, finds the state dict that fits a network, and loads it.

A checkpoint often holds more than one network's weights, in one of many layouts: `{"netG": ..., "netD": ...}`,
`{"state_dict": {"generator.main.0.weight": ...}}`, with the prefixes of DataParallel and torch.compile, or as a
TorchScript file. The network itself says which part is meant: the one whose names and shapes fit.
"""

from __future__ import annotations

import argparse
import pathlib
import pickle
import re
import types
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from exporter.errors import InputError
from exporter.torchscript_weights import is_torchscript, read_torchscript_weights
from ganserve.foreign import first_line

Note: TypeAlias = Callable[[str], None]  # shows the user one line

_MAX_KEYS_NAMED = 3
_MAX_NETWORKS_NAMED = 8
_MAX_DEPTH = 4  # of dicts in dicts
_WRAPPERS: Final = frozenset({"module", "_orig_mod"})  # names that DataParallel and torch.compile put into keys
_AVERAGED: Final = re.compile(r"(^|[._])(ema|average|running)([._]|$)", re.IGNORECASE)
_ALL_OF: Final = "write it with torch.save(generator.state_dict(), file)"
_NOT_ALLOWED: Final = re.compile(r"GLOBAL ([\w.]+)")  # in PyTorch's refusal of a class
# The functions that make NumPy's numbers and arrays; NumPy 1 wrote them under another name.
_NUMPY_FUNCTIONS: Final[list[Any]] = [np.float64(0).__reduce__()[0], np.zeros(0).__reduce__()[0]]
# Plain values that training scripts save beside the weights. To load one runs nobody's code.
_PLAIN_TYPES: Final[list[Any]] = [
    argparse.Namespace,
    types.SimpleNamespace,
    pathlib.PosixPath,
    np.dtype,
    np.ndarray,
    *(type(np.dtype(kind)) for kind in "?bhilBHILefdU"),
    *((make, f"numpy.{core}.multiarray.{make.__name__}") for make in _NUMPY_FUNCTIONS for core in ("core", "_core")),
]


@dataclass(frozen=True)
class Weights:
    """The state dicts in a file.

    Attributes:
        states: By key: the names of the dicts around a state dict, joined by dots; "" if it is the file itself. The
            keys of a state dict are without the names that DataParallel and torch.compile add.
        where: The flag and the file, which begin an error message.
        asked: The key that the user gave; empty without one.
    """

    states: Mapping[str, Mapping[str, Tensor]]
    where: str
    asked: str = ""

    def within(self, key: str | None) -> Weights:
        """The part under a key, such as "netG" or "state_dict.generator"; all for None.

        Raises:
            InputError: There is no such key.
        """
        if key is None:
            return self
        wanted = _without_wrappers(key)
        found: dict[str, Mapping[str, Tensor]] = {}
        for name, state in self.states.items():
            if f"{name}.".startswith(f"{wanted}."):
                found[name] = state
            elif not name or wanted.startswith(f"{name}."):
                inner = _under(state, wanted.removeprefix(f"{name}.") if name else wanted)
                if inner:
                    found[wanted] = inner
        if not found:
            raise InputError(f"{self.where}: --weights-key {key} is not in it; it holds {self.networks()}")
        return Weights(found, self.where, wanted)

    def parts(self) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
        """Every state dict, and every group of keys with a common prefix, by the key that `within` takes."""
        for name, state in self.states.items():
            yield name, state
            for prefix in dict.fromkeys(prefix for key in state for prefix in _prefixes_of(key)):
                yield _joined(name, prefix), _under(state, prefix)

    def networks(self) -> str:
        """The keys that a user can choose from."""
        names = [name for name in self.states if name]
        names = names or list(dict.fromkeys(key.partition(".")[0] for state in self.states.values() for key in state))
        return _listed(names, _MAX_NETWORKS_NAMED)

    def load_into(self, module: nn.Module, note: Note, *, remedy: str = "") -> None:
        """Loads the state dict that fits the module.

        Args:
            module: The network; its weights are replaced.
            note: Called if a choice was made, or something was left out.
            remedy: What else to do about other shapes.

        Raises:
            InputError: None fits, or several do.
        """
        expected = {_without_wrappers(key): key for key in module.state_dict()}
        if len(expected) < len(module.state_dict()):
            expected = {key: key for key in module.state_dict()}
        candidates = [_Candidate(name, state, module, expected) for name, state in self._likely(expected)]
        fitting = [candidate for candidate in candidates if candidate.fits]
        chosen = self._choose(fitting, note) if fitting else candidates[0]
        if chosen.left_out:
            note(
                f"{self.where}: left out {_listed(chosen.left_out, _MAX_KEYS_NAMED)}: the InstanceNorm layers of the"
                " module keep no running statistics"
            )
        prefix = f"{self.where}: {chosen.name}: " if chosen.name and not fitting else f"{self.where}: "
        if not fitting and chosen.other_shape:
            key = chosen.other_shape
            raise InputError(
                f"{prefix}{key} has shape {tuple(chosen.state[key].shape)}, but the module's has"
                f" {tuple(module.state_dict()[expected[key]].shape)}{remedy}"
            )
        # Layers may convert the names of older versions, so what counts is what they accept.
        try:
            missing, unexpected = module.load_state_dict(
                {expected.get(key, key): tensor for key, tensor in chosen.state.items()}, strict=False
            )
        except Exception as error:  # layers may check and convert weights with code of their own
            raise InputError(f"{prefix}does not fit the module: {' '.join(str(error).split()):.200}{remedy}") from error
        problems = [
            f"{problem} {_listed(sorted(keys), _MAX_KEYS_NAMED)}"
            for problem, keys in (("lacks", missing), ("has unknown", unexpected))
            if keys
        ]
        if problems:
            holds = f"; the file holds {self.networks()}" if len(self.states) > 1 else ""
            raise InputError(f"{prefix}does not fit the module: {', '.join(problems)}{holds}")

    def _likely(self, expected: Iterable[str]) -> list[tuple[str, Mapping[str, Tensor]]]:
        """The parts that have all names of a module; if none has, the one with the most."""
        wanted = {key for key in expected if not _is_count(key)}
        likely: list[tuple[int, str, Mapping[str, Tensor]]] = []
        for name, state in self.states.items():
            shared = Counter(
                prefix for key in state for prefix in ("", *_prefixes_of(key)) if _inner(key, prefix) in wanted
            )
            likely += [(shared[prefix], _joined(name, prefix), _under(state, prefix)) for prefix in shared or [""]]
        complete = [part for part in likely if part[0] == len(wanted)]
        return [(name, state) for _, name, state in complete or [max(likely, key=lambda part: part[0])]]

    def _choose(self, fitting: list[_Candidate], note: Note) -> _Candidate:
        by_name = {candidate.name: candidate for candidate in fitting}
        if self.asked in by_name:
            return by_name[self.asked]
        chosen = by_name[pick(list(by_name), self.where, "fit the module", note)]
        if len(by_name) == 1:
            note(f"{self.where}: took {chosen.name}, which fits the module")
        return chosen


@dataclass
class _Candidate:
    """One part of a file, compared with a module.

    Args:
        name: Its key.
        state: Its tensors; without those that the module does not keep, afterwards.
        module: The network.
        expected: The names of the module's tensors, by their names without wrappers.
    """

    name: str
    state: Mapping[str, Tensor]
    module: nn.Module
    expected: Mapping[str, str]
    left_out: list[str] = field(default_factory=list)
    other_shape: str = ""  # the first tensor that has another shape in the module
    fits: bool = False

    def __post_init__(self) -> None:
        unknown = self.state.keys() - self.expected.keys()
        # Before version 0.4, PyTorch saved running statistics that InstanceNorm did not use.
        statistics = {
            _without_wrappers(f"{layer}.{buffer}")
            for layer, child in self.module.named_modules()
            if isinstance(child, nn.modules.instancenorm._InstanceNorm) and not child.track_running_stats
            for buffer in ("running_mean", "running_var", "num_batches_tracked")
        }
        self.left_out = sorted(unknown & statistics)
        # TorchScript also keeps buffers that a state dict leaves out; torch.optim.swa_utils counts its updates.
        unsaved = {_without_wrappers(name) for name, _ in self.module.named_buffers()} | {"n_averaged"}
        self.state = {key: self.state[key] for key in self.state if key not in unknown & (statistics | unsaved)}
        shapes = {
            key: tensor.shape
            for key, tensor in self.module.state_dict().items()
            if not nn.parameter.is_lazy(tensor)  # takes its shape from the weights
        }
        self.other_shape = next(
            (
                key
                for key, name in self.expected.items()
                if key in self.state and self.state[key].shape != shapes.get(name, self.state[key].shape)
            ),
            "",
        )
        lacks = [key for key in self.expected.keys() - self.state.keys() if not _is_count(key)]
        self.fits = not (lacks or self.other_shape or self.state.keys() - self.expected.keys())


def read_weights(path: Path, flag: str, note: Note, *, allow_pickle: bool = False) -> Weights:
    """Reads a file of weights: safetensors, TorchScript, or a file of torch.save.

    Args:
        path: The file; its content tells the format.
        flag: The flag that named the file, for error messages.
        note: Called before code from the file runs.
        allow_pickle: Run the code in the file if its weights cannot be read otherwise.

    Raises:
        InputError: The file holds no weights, or they cannot be read without running code.
    """
    where = f"{flag} {path}"
    content = _read_content(path, where, note, allow_pickle=allow_pickle)
    states: dict[str, Mapping[str, Tensor]] = {}
    _collect_states(content, "", states, _MAX_DEPTH)
    if not states and isinstance(content, Mapping) and not content:
        states[""] = {}
    if not states:
        found = f"a {type(content).__name__}"
        if isinstance(content, Mapping):
            found = f"a dict with {_listed(sorted(map(str, content)), _MAX_KEYS_NAMED)}"
        raise InputError(f"{where}: holds {found}, and no state dict; {_ALL_OF}")
    return Weights(states, where)


def pick(names: list[str], where: str, what: str, note: Note) -> str:
    """One of several networks in a file: the only one, or the only running average, which repositories sample from.

    Args:
        names: Their keys; at least one.
        where: The flag and the file.
        what: What they have in common, such as "fit the module".
        note: Called if there was a choice.

    Raises:
        InputError: The user must choose.
    """
    averages = names if len(names) == 1 else [name for name in names if _AVERAGED.search(name)]
    if len(averages) != 1:
        listed = _listed(names, _MAX_NETWORKS_NAMED)
        raise InputError(f"{where}: {listed} all {what}; choose one with --weights-key {names[0]}, or another of them")
    if len(names) > 1:
        others = _listed([name for name in names if name != averages[0]], _MAX_NETWORKS_NAMED)
        note(f"{where}: took {averages[0]}, the running average; --weights-key takes another: {others}")
    return averages[0]


def run_pickle(path: Path) -> Any:
    """Loads a file of torch.save or pickle.dump with all objects in it, which runs any code in it."""
    try:
        return torch.load(path, "cpu", weights_only=False)
    except RuntimeError as error:
        if "magic number" not in str(error):
            raise
        with path.open("rb") as file:  # pickle.dump, which StyleGAN uses
            return pickle.load(file)  # noqa: S301  # the user allowed it


def is_weights_format(path: Path) -> bool:
    """Whether the format can hold weights alone: safetensors or TorchScript."""
    return _is_safetensors(path) or is_torchscript(path)


def _read_content(path: Path, where: str, note: Note, *, allow_pickle: bool) -> Any:
    try:
        if _is_safetensors(path):
            return load_file(path)
        if is_torchscript(path):
            return read_torchscript_weights(path)
        with torch.serialization.safe_globals(_PLAIN_TYPES):
            return torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # the readers raise many kinds of errors
        if is_weights_format(path):
            raise InputError(f"{where}: cannot be read ({first_line(error)}); {_ALL_OF}") from error
        if not _is_pickle(path):
            raise InputError(f"{where}: {_what_is_it(path)}") from error
        if not allow_pickle:
            names = _NOT_ALLOWED.search(str(error))
            code = f"the code of {names[1]}" if names else "the code inside it"
            raise InputError(
                f"{where}: loading it runs {code}; if you trust its author, add --allow-pickle, or {_ALL_OF}"
            ) from error
    note(f"warning: loading {path} runs the code inside it")
    try:
        return run_pickle(path)
    except Exception as error:  # unpickling runs the user's code, which may raise anything
        raise InputError(
            f"{where}: cannot be read ({first_line(error)}); run from the folder that contains its classes, or"
            f" {_ALL_OF}"
        ) from error


def _is_safetensors(path: Path) -> bool:
    """Whether it begins as safetensors does: the length of a JSON object, and the object."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def _is_pickle(path: Path) -> bool:
    """Whether it is an archive of torch.save, or begins as pickles do."""
    with path.open("rb") as file:
        begins_as_pickle = file.read(1) == b"\x80"
    return begins_as_pickle or zipfile.is_zipfile(path)


def _what_is_it(path: Path) -> str:
    """What a file is that holds no weights, and what to do."""
    with path.open("rb") as file:
        start = file.read(200).lstrip().lower()
    if start.startswith(b"pk"):
        return "is damaged or incomplete; copy or download it again"
    if start.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the file; run git lfs pull in its repository"
    if start.startswith((b"<!doctype html", b"<html")):
        return "is a web page; download the file itself"
    return f"neither safetensors, TorchScript nor a file of torch.save; {_ALL_OF}"


def _collect_states(content: Any, name: str, states: dict[str, Mapping[str, Tensor]], depth: int) -> None:
    if isinstance(content, nn.Module):
        content = content.state_dict()
    if isinstance(content, list | tuple):
        content = {str(index): item for index, item in enumerate(content)}
    if not isinstance(content, Mapping) or not depth:
        return
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if tensors:
        short = {_without_wrappers(key): value for key, value in tensors.items()}
        states[_without_wrappers(name)] = short if len(short) == len(tensors) else tensors
    for key, value in content.items():
        if isinstance(key, str):  # numbers are those of an optimiser's parameters
            _collect_states(value, _joined(name, key), states, depth - 1)


def _without_wrappers(key: str) -> str:
    return ".".join(part for part in key.split(".") if part not in _WRAPPERS)


def _is_count(key: str) -> bool:
    """Whether it is batch norm's number of batches: files from before PyTorch 0.4.1 lack it, and it starts at 0."""
    return key.endswith("num_batches_tracked")


def _prefixes_of(key: str) -> Iterator[str]:
    """The prefixes of "a.b.c" are "a" and "a.b"."""
    end = key.find(".")
    while end >= 0:
        yield key[:end]
        end = key.find(".", end + 1)


def _inner(key: str, prefix: str) -> str:
    return key.removeprefix(f"{prefix}.") if prefix else key


def _under(state: Mapping[str, Tensor], prefix: str) -> Mapping[str, Tensor]:
    if not prefix:
        return state
    return {key[len(prefix) + 1 :]: tensor for key, tensor in state.items() if key.startswith(f"{prefix}.")}


def _joined(name: str, prefix: str) -> str:
    return ".".join(filter(None, (name, prefix)))


def _listed(names: Iterable[str], most: int) -> str:
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) + more) or "no keys"
