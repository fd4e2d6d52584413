"""Runs the user's own code as a guest: it can neither read our command line, nor end the program, nor write to stdout.

The file of a network is often a training script, which parses arguments, prints and warns when it is imported.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from exporter.errors import InputError

_REMEDY = "move the class to a file of its own that only defines it, and name that file in --module"


@contextlib.contextmanager
def guest(what: str, program: str, note: Callable[[str], None]) -> Iterator[None]:
    """Runs the code inside the `with` block as a guest.

    It sees a command line without arguments, so that a parser returns its defaults. What it prints goes to stderr. Its
    warnings become one line each, and are not shown again.

    Args:
        what: The flag and its value, which begin an error message.
        program: The name of the program that it sees, such as "dcgan.py".
        note: Called with each of its warnings.

    Raises:
        InputError: It exits.
    """
    printed = io.StringIO()
    argv = sys.argv
    sys.argv = [program]
    try:
        with (
            warnings.catch_warnings(record=True) as caught,
            contextlib.redirect_stdout(sys.stderr),
            contextlib.redirect_stderr(printed),
        ):
            warnings.simplefilter("default")
            yield
    except SystemExit as error:
        said = [line for line in printed.getvalue().splitlines() if line.strip()]
        reason = said[-1].strip() if said else f"exit code {error.code}"
        raise InputError(f"{what}: its code ends the program ({reason:.200}); {_REMEDY}") from error
    finally:
        sys.argv = argv
    sys.stderr.write(printed.getvalue())
    for warning in dict.fromkeys((entry.category, str(entry.message), entry.filename) for entry in caught):
        category, text, file = warning
        note(f"{Path(file).name} warns: {' '.join(text.split()):.200}")
        warnings.filterwarnings("ignore", re.escape(text), category)
