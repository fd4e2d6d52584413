"""Keeps old names of keyword arguments working. Knows nothing of the calls that have them."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def renamed_argument(old: str, new: str) -> Callable[[Callable[_Arguments, _Result]], Callable[_Arguments, _Result]]:
    """A decorator that passes the keyword argument `old` on as `new`, with a DeprecationWarning."""

    def decorated(call: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
        @functools.wraps(call)
        def with_old_name(*args: Any, **keywords: Any) -> Any:
            if old in keywords:
                if new in keywords:
                    raise TypeError(f"{call.__name__}() got both {new!r} and its old name {old!r}; give only {new!r}")
                warnings.warn(f"{call.__name__}: {old!r} is now {new!r}", DeprecationWarning, stacklevel=2)
                keywords[new] = keywords.pop(old)
            return call(*args, **keywords)

        return with_old_name

    return decorated
