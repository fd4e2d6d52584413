"""Runs a user's network once, to find how it takes its rows; says what is wrong if it does not return images."""

from __future__ import annotations

import inspect
import json
import math
from itertools import islice
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from exporter.errors import InputError
from exporter.graph import SpatialLatents
from exporter.signature import PLAIN, AdaptedNetwork, Signature, describe, items_of, looks_like_images
from ganserve.bundle import LatentInput, RowInput
from ganserve.foreign import first_line
from ganserve.wording import counted

_ROWS: Final = 2
_FIRST_WEIGHTS: Final = 4  # whose sizes are tried as the latent size
_CONVOLUTIONS: Final = {torch.conv2d, torch.conv_transpose2d}  # F.conv2d is torch.conv2d
_SUBCLASS: Final = "write a subclass as in docs/importing.md"


def adapt(module: nn.Module, row_input: RowInput, value_range: tuple[float, float], signature: Signature) -> nn.Module:
    """Returns the module, wrapped where its signature or the shape of its latents needs it.

    Latents are tried as (N, latent_dim), then as (N, latent_dim, 1, 1).

    Args:
        module: A generator or translator in eval mode, float32, on the CPU; torch.compile is undone in place.
        row_input: What it takes.
        value_range: The image values of pixels 0 and 255.
        signature: How its forward is called, and where the images are in its output.

    Raises:
        InputError: The module does not turn such rows into images. The message names the cause: the arguments of
            forward, the form of its output, or the shape of its input.
    """
    module = _without_compiler(module)
    _check_scripted(module)
    _check_arguments(module, signature)
    attempts = _attempts(module, row_input, value_range)
    outputs: list[InputError] = []
    failures: dict[str, Exception] = {}
    for takes, (network, rows) in attempts.items():
        adapted = AdaptedNetwork(network, signature).eval()
        try:
            with torch.no_grad(), _OnlyWhatOnnxCan():
                output = adapted.output(rows)
        except InputError:
            raise
        except Exception as error:  # noqa: BLE001  # the user's code may raise anything
            failures[takes] = error
            continue
        try:
            adapted.channels_last = _is_channels_last(output, len(rows), signature)
        except InputError as error:
            outputs.append(error)
            continue
        return network if signature == PLAIN else adapted
    if outputs:
        raise outputs[0]
    raise InputError(_why_it_fails(module, row_input, value_range, signature, failures))


def _without_compiler(module: nn.Module) -> nn.Module:
    """Takes torch.compile's wrappers off a module and its parts, in place: a trace cannot follow the compiler."""
    original = getattr(module, "_orig_mod", None)
    if isinstance(original, nn.Module):
        return _without_compiler(original)
    module._compiled_call_impl = None  # of module.compile()
    for name, child in list(module._modules.items()):  # named_children() leaves out a second name of a module
        if child is not None and (plain := _without_compiler(child)) is not child:
            setattr(module, name, plain)
    return module


def _attempts(
    module: nn.Module, row_input: RowInput, value_range: tuple[float, float]
) -> dict[str, tuple[nn.Module, Tensor]]:
    """The networks to try, and rows for them, by the shape of the rows that the module then sees."""
    if isinstance(row_input, LatentInput):
        size = row_input.latent_dim
        rows = torch.zeros(_ROWS, size)
        return {f"(N, {size})": (module, rows), f"(N, {size}, 1, 1)": (SpatialLatents(module).eval(), rows)}
    shape = (row_input.channels, row_input.height, row_input.width)
    return {f"(N, {', '.join(map(str, shape))})": (module, torch.empty(_ROWS, *shape).uniform_(*value_range))}


def _check_scripted(module: nn.Module) -> None:
    """Raises InputError if a part of the module is in TorchScript, which PyTorch cannot write to ONNX."""
    for name, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            raise InputError(
                f"the module's {name or 'forward'} is compiled by torch.jit.script, which cannot be exported to"
                " ONNX; build it without torch.jit.script, which changes no weights"
            )


class _OnlyWhatOnnxCan(TorchFunctionMode):
    """Refuses what a graph in ONNX cannot compute.

    A convolution of all rows at once, with a group per row: the number of groups is fixed in ONNX. Autocast: ONNX has
    no convolutions in bfloat16.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.is_autocast_enabled("cpu"):
            raise InputError(
                "the module's forward computes under torch.autocast on the CPU, but graphs are exported in float32;"
                " take torch.autocast out of forward, or give it enabled=False. --bf16 adds a variant in bfloat16"
            )
        if func in _CONVOLUTIONS and kwargs.get("groups") == _ROWS and len(args) > 1:
            rows, weight = args[:2]
            if rows.shape[0] == 1 and not isinstance(weight, nn.Parameter):  # the weights are computed for each row
                raise InputError(
                    "the module's forward convolves all rows at once, with a group per row (fused modulated"
                    " convolution, as in StyleGAN2), which ONNX cannot express for other batch sizes; turn this off, as"
                    " docs/importing.md shows"
                )
        return func(*args, **kwargs)


def _check_arguments(module: nn.Module, signature: Signature) -> None:
    """Raises InputError unless forward can be called with rows and the fixed arguments."""
    signature_of_forward = inspect.signature(module.forward)
    parameters = list(signature_of_forward.parameters.values())
    bare = [parameter.replace(annotation=parameter.empty) for parameter in parameters]
    takes = f"forward{signature_of_forward.replace(parameters=bare, return_annotation=inspect.Signature.empty)}"
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if not parameters or parameters[0].kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD):
        raise InputError(f"the module's {takes} takes no input by position; {_SUBCLASS}")
    given = signature.forward_kwargs
    rows, others = (named[0].name, named[1:]) if parameters[0] in named else ("", named)
    if rows in given:
        raise InputError(
            f"--forward-kwargs: {rows} is the first argument of {takes}, which takes the rows; {_SUBCLASS}"
        )
    names = {parameter.name for parameter in others}
    if not takes_any and (unknown := sorted(given.keys() - names)):
        raise InputError(f"--forward-kwargs: {takes} has no argument {unknown[0]}")
    missing = [p.name for p in others if p.default is p.empty and p.name not in given]
    if missing:
        raise InputError(
            f"the module's {takes} also needs {' and '.join(missing)}; give --forward-kwargs '{_example(missing)}' with"
            f" your values (a list, such as [3], for a label), or {_SUBCLASS}"
        )


def _example(names: list[str]) -> str:
    return json.dumps({name: [0] if "label" in name or name == "y" else 1 for name in names})


def _is_channels_last(output: Any, rows: int, signature: Signature) -> bool:
    """Whether the images have their channels last.

    Raises:
        InputError: The output is not images, and does not become images by the signature.
    """
    if not isinstance(output, Tensor):
        items = items_of(output)
        images = [name for name, item in items.items() if looks_like_images(item)]
        tensors = [name for name, item in items.items() if isinstance(item, Tensor)]
        remedy = f"choose its images with --output-item {(images or tensors or ['NAME'])[0]}" if items else _SUBCLASS
        raise InputError(f"the module's forward returns {describe(output)}; {remedy}")
    shape = tuple(output.shape)
    if output.ndim == 0 or len(output) != rows:
        raise InputError(
            f"the module's forward returns {describe(output)} for {counted(rows, 'row')}; it must return one image per"
            " row"
        )
    row = shape[1:]
    wanted = signature.output_image
    if wanted is not None:
        channels, height, width = wanted
        if row == (height, width, channels) != wanted:
            return True
        # Flat in the order of (C, H, W): another order would scramble the pixels.
        if row not in {wanted, (math.prod(wanted),), (channels, height * width), (1, math.prod(wanted))} and not (
            channels == 1 and row == (height, width)
        ):
            raise InputError(
                f"--output-image {channels} {height} {width} has {math.prod(wanted)} values, but the module's forward"
                f" returns {_rows_of(row)}"
            )
        return False
    if len(row) == 3 and (row[0] <= 4 or row[2] > 4):  # check_output refuses more than 4 channels
        return False
    raise InputError(f"the module's forward returns {_rows_of(row)}; {_shape_remedy(row)}")


def _rows_of(row: tuple[int, ...]) -> str:
    return f"shape (N{''.join(f', {size}' for size in row)}) instead of images (N, C, H, W)"


def _shape_remedy(row: tuple[int, ...]) -> str:
    if len(row) == 3:
        return f"if the channels are last, give --output-image {row[2]} {row[0]} {row[1]}"
    if len(row) == 2 and min(row) > 1:
        return f"if these are gray images, give --output-image 1 {row[0]} {row[1]}"
    if len(row) in {1, 2}:
        values = math.prod(row)
        for channels in (3, 1, 4):
            side = math.isqrt(values // channels)
            if side > 1 and channels * side * side == values:
                return f"give the shape of an image with --output-image C H W, such as {channels} {side} {side}"
        if values > 4:
            return "give the shape of an image with --output-image C H W"
    return _SUBCLASS


def _why_it_fails(
    module: nn.Module,
    row_input: RowInput,
    value_range: tuple[float, float],
    signature: Signature,
    failures: dict[str, Exception],
) -> str:
    """The line for a module whose forward raises for every shape of its rows."""
    kind, flag = ("latents", "--latent-dim") if isinstance(row_input, LatentInput) else ("images", "--input-image")
    causes = "; ".join(f"{takes} gives {first_line(error)}" for takes, error in failures.items())
    line = f"the module's forward fails on {kind}: {causes}"
    if isinstance(row_input, LatentInput) and (size := _size_that_runs(module, row_input.latent_dim, signature)):
        return f"{line}; give --latent-dim {size}, with which it runs"
    first = next(iter(failures.values()))
    if isinstance(first, NotImplementedError):
        return f"{line}; {_SUBCLASS}"
    if not isinstance(first, TypeError | AttributeError):
        right = f"are {flag} and --forward-kwargs" if signature.forward_kwargs else f"is {flag}"
        return f"{line}; {right} right?"
    # The code met a value of another type than it expects, whatever the shape of the rows.
    plain = [name for name, value in signature.forward_kwargs.items() if not isinstance(value, list)]
    if plain:
        return f"{line}; if {plain[0]} is a tensor with an entry per row, such as a label, write it as a list: [3]"
    optional = [
        parameter.name
        for parameter in islice(inspect.signature(module.forward).parameters.values(), 1, None)
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and parameter.name not in signature.forward_kwargs
    ]
    if optional:
        return f"{line}; does it need {' or '.join(optional)}? Give --forward-kwargs '{_example(optional[:1])}'"
    return f"{line}; {_SUBCLASS}"


def _size_that_runs(module: nn.Module, tried: int, signature: Signature) -> int | None:
    """The latent size that the first weights of the module suggest, if it turns latents of that size into images."""
    weights = islice((weight for weight in module.parameters() if weight.ndim > 1), _FIRST_WEIGHTS)
    sizes = dict.fromkeys(size for weight in weights for size in weight.shape[:2] if size != tried)
    for size in sizes:
        for network, rows in _attempts(module, LatentInput(latent_dim=size), (-1.0, 1.0)).values():
            adapted = AdaptedNetwork(network, signature).eval()
            try:
                with torch.no_grad():
                    _is_channels_last(adapted.output(rows), len(rows), signature)
            except Exception:  # noqa: BLE001, S112  # the user's code may raise anything
                continue
            return size
    return None
