"""Reads the weights in a TorchScript file, without running the program in it."""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

_DTYPES: Final = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def is_torchscript(path: Path) -> bool:
    """Whether the file is an archive of torch.jit.save."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript_weights(path: Path) -> dict[str, Tensor]:
    """The parameters and buffers of a module written by torch.jit.save, by their names in its state dict.

    torch.jit.load would also compile the program in the file, which may write files when it is loaded. The tensors are
    in a pickle of known form, so this reads them alone. Buffers that a state dict leaves out are included.

    Raises:
        pickle.UnpicklingError: It holds something other than modules, tensors and plain values.
    """
    with zipfile.ZipFile(path) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        with archive.open(name) as file:
            root = _Reader(file, archive, name.removesuffix(".pkl")).load()
    tensors: dict[str, Tensor] = {}
    _collect(root, "", tensors)
    return tensors


class _Scripted:
    """Stands for an object of a scripted class."""

    attributes: Any = None

    def __setstate__(self, state: Any) -> None:
        self.attributes = state


class _Reader(pickle.Unpickler):
    """Builds modules as `_Scripted`, and knows no class but theirs and those of tensors."""

    def __init__(self, file: Any, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(file)
        self._archive = archive
        self._folder = folder  # of the tensors' bytes

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return _Scripted
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch.jit._pickle":  # typed lists and dicts
            return lambda value, *_: value
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a module of layers")

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, *_ = pid
        content = bytearray(self._archive.read(f"{self._folder}/{key}"))
        return torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)


def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    return torch.as_strided(storage, size, stride, offset)


def _collect(value: Any, key: str, tensors: dict[str, Tensor]) -> None:
    if isinstance(value, Tensor):
        tensors[key] = value
    elif isinstance(value, _Scripted) and isinstance(value.attributes, dict):
        for name, attribute in value.attributes.items():
            _collect(attribute, f"{key}.{name}" if key else str(name), tensors)
