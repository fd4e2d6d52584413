"""Writes deploy/monitoring/prometheusrule.yaml, rules.yml in the form of the Prometheus operator (`make pages`).

A test checks that it is current.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).parents[1] / "deploy" / "monitoring"
RULES: Final = _FOLDER / "rules.yml"
FILE: Final = _FOLDER / "prometheusrule.yaml"
_HEAD: Final = """\
# Generated from rules.yml by `make pages`.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: ganserve
spec:
"""


def build() -> str:
    """The file."""
    _, begin, groups = RULES.read_text().partition("groups:\n")
    return _HEAD + textwrap.indent(begin + groups, "  ")


if __name__ == "__main__":
    FILE.write_text(build())
