"""Writes the schemas in tests/deploy/schemas/ from the projects that own them.

    python -m scripts.deploy_schemas crd.yaml... compose-spec.json

A CustomResourceDefinition becomes the JSON schema of its stored version. It is stricter than the API server, which
drops unknown fields: here they are errors. Descriptions, which are most of the size, are left out, and so are parts of
KServe's kinds that our files do not use. Rules in CEL (x-kubernetes-validations) are not checked.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import click
import yaml

FOLDER: Final = Path(__file__).parents[1] / "tests" / "deploy" / "schemas"
_KEPT_OF_PREDICTOR: Final = 3000  # bytes of the largest field that is kept, except for the next two
_PREDICTOR: Final = ("model", "autoScaling")
_NAMES: Final = {"type": "object", "additionalProperties": {"type": "string"}}
_METADATA: Final = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string"}, "labels": _NAMES, "annotations": _NAMES},
    "additionalProperties": False,
}


def schema_of(definition: dict[str, Any]) -> dict[str, Any]:
    """The schema of the stored version of a CustomResourceDefinition."""
    spec = definition["spec"]
    [version] = [version for version in spec["versions"] if version["storage"]]
    schema: dict[str, Any] = _closed(version["schema"]["openAPIV3Schema"])
    kind, properties = spec["names"]["kind"], schema["properties"]
    if kind == "InferenceService":
        fields = properties["spec"]["properties"] = {"predictor": properties["spec"]["properties"]["predictor"]}
        predictor = fields["predictor"]["properties"]
        for name in [*predictor]:
            if name not in _PREDICTOR and len(json.dumps(predictor[name])) > _KEPT_OF_PREDICTOR:
                del predictor[name]
    if kind == "ServingRuntime":
        for name in ("affinity", "volumes", "workerSpec"):
            del properties["spec"]["properties"][name]
    del properties["status"]
    properties["metadata"] = _METADATA
    properties["apiVersion"] = {"const": f"{spec['group']}/{version['name']}"}
    properties["kind"] = {"const": kind}
    schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
    return schema


def without_descriptions(schema: Any) -> Any:
    """A schema without its explanations; a property may be called `description`."""
    if isinstance(schema, list):
        return [without_descriptions(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties":
            kept[key] = {name: without_descriptions(part) for name, part in value.items()}
        elif key != "description":
            kept[key] = without_descriptions(value)
    return kept


def _closed(schema: Any) -> Any:
    """An OpenAPI schema as a JSON schema that allows no unknown fields."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed: dict[str, Any] = {}
    for key, value in without_descriptions(schema).items():
        if key == "properties":
            closed[key] = {name: _closed(part) for name, part in value.items()}
        elif key == "pattern":
            closed[key] = value.replace("^(?i)", "(?i)^")  # Go allows flags anywhere, Python only at the start
        elif not key.startswith("x-kubernetes-") and key != "default":
            closed[key] = _closed(value)
    if "properties" in closed and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(files: tuple[Path, ...]) -> None:
    """Writes a schema for each file."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for file in files:
        definition = yaml.safe_load(file.read_text())
        is_crd = definition.get("kind") == "CustomResourceDefinition"
        name = definition["spec"]["names"]["kind"] if is_crd else "Compose"
        schema = schema_of(definition) if is_crd else without_descriptions(definition)
        (FOLDER / f"{name}.json").write_text(json.dumps(schema, separators=(",", ":"), sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
