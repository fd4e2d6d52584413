"""Every manifest follows the schema of its kind strictly, and a broken copy of it does not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.deploy import manifests
from tests.deploy.manifests import DEPLOY, KUSTOMIZATIONS, InvalidError, Manifest

RENDERED = {f"kubernetes/{name}": manifests.kubernetes(name) for name in KUSTOMIZATIONS}
RENDERED["monitoring"] = manifests.render(DEPLOY / "monitoring")
for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")):
    RENDERED[path.stem] = tuple(yaml.safe_load_all(path.read_text()))
RENDERED["kserve"] = tuple(manifests.load(f"kserve/{path.name}") for path in sorted((DEPLOY / "kserve").iterdir()))
ALL = [
    pytest.param(manifest, id=f"{folder} {manifest['kind']}")
    for folder, found in RENDERED.items()
    for manifest in found
]


@pytest.mark.parametrize("manifest", ALL)
def test_a_manifest_follows_its_schema(manifest: Manifest) -> None:
    manifests.check(manifest)


@pytest.mark.parametrize("manifest", ALL)
def test_a_misspelt_field_is_refused(manifest: Manifest) -> None:
    broken = copy.deepcopy(manifest)
    body = broken["spec" if "spec" in broken else "data"]
    if broken["kind"] == "ConfigMap":
        broken["datas"] = body
    else:
        body["misspelt"] = body.popitem()[1]
    with pytest.raises(InvalidError):
        manifests.check(broken)


def container(manifest: Manifest) -> dict[str, Any]:
    found: dict[str, Any] = manifest["spec"]["template"]["spec"]["containers"][0]
    return found


def misspell_probe(manifest: Manifest) -> None:
    container(manifest)["readinesProbe"] = container(manifest).pop("readinessProbe")


def name_the_port_of_a_grpc_probe(manifest: Manifest) -> None:
    container(manifest)["readinessProbe"] = {"grpc": {"port": "grpc"}}


def list_cpus(manifest: Manifest) -> None:
    container(manifest)["resources"]["limits"]["cpu"] = ["2"]


def put_seconds_in_text(manifest: Manifest) -> None:
    manifest["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = "60s"


@pytest.mark.parametrize(
    "damage", [misspell_probe, name_the_port_of_a_grpc_probe, list_cpus, put_seconds_in_text], ids=lambda f: f.__name__
)
def test_typical_mistakes_in_a_deployment_are_refused(damage: Callable[[Manifest], None]) -> None:
    broken = copy.deepcopy(manifests.only(manifests.kubernetes("base"), "Deployment"))
    damage(broken)
    with pytest.raises(InvalidError):
        manifests.check(broken)


MISTAKES: dict[str, tuple[str, str, Callable[[dict[str, Any]], object]]] = {
    "a trigger without metadata": (
        "kubernetes/overlays/keda",
        "ScaledObject",
        lambda of: of["triggers"][0].pop("metadata"),
    ),
    "a threshold that is a number": (
        "kubernetes/overlays/keda",
        "ScaledObject",
        lambda of: of["triggers"][0]["metadata"].update(threshold=64),
    ),
    "a route to a port by name": (
        "kubernetes/overlays/gateway",
        "GRPCRoute",
        lambda of: of["rules"][0]["backendRefs"][0].update(port="grpc"),
    ),
    "an unknown TLS mode": (
        "kubernetes/overlays/gateway",
        "Gateway",
        lambda of: of["listeners"][0]["tls"].update(mode="End"),
    ),
    "an interval without a unit": ("monitoring", "ServiceMonitor", lambda of: of["endpoints"][0].update(interval="15")),
    "a rule without an expression": (
        "monitoring",
        "PrometheusRule",
        lambda of: of["groups"][0]["rules"][0].pop("expr"),
    ),
    "a runtime without formats and containers": ("kserve", "ServingRuntime", lambda of: of.pop("containers")),
    "a replica count in words": (
        "kserve",
        "InferenceService",
        lambda of: of["predictor"].update(minReplicas="two"),
    ),
}


@pytest.mark.parametrize(("folder", "kind", "damage"), MISTAKES.values(), ids=MISTAKES)
def test_typical_mistakes_in_other_kinds_are_refused(
    folder: str, kind: str, damage: Callable[[dict[str, Any]], object]
) -> None:
    broken = copy.deepcopy(manifests.only(RENDERED[folder], kind))
    damage(broken["spec"])
    with pytest.raises(InvalidError):
        manifests.check(broken)


def test_the_compose_file_follows_its_schema_and_a_broken_copy_does_not() -> None:
    own = manifests.schema("Compose")
    assert own is not None
    compose = manifests.load("compose.yaml")
    manifests.check_against(own, compose)
    compose["services"]["ganserve"]["stop_grace_periode"] = "60s"
    with pytest.raises(InvalidError):
        manifests.check_against(own, compose)


def test_no_yaml_file_is_left_out() -> None:
    used = {f"kubernetes/{name}" for name in KUSTOMIZATIONS} | {"monitoring"}
    kustomizations = {path.parent.relative_to(DEPLOY).as_posix() for path in DEPLOY.rglob("kustomization.yaml")}
    assert {name for name in kustomizations if "/components/" not in name} == used
    components = {name.rpartition("/")[2] for name in kustomizations if "/components/" in name}
    assert components == {name.rpartition("/")[2] for name in KUSTOMIZATIONS if name.startswith("overlays/")}
    for folder in (DEPLOY / name for name in kustomizations):
        listed = (folder / "kustomization.yaml").read_text()
        unused = [path.name for path in folder.glob("*.yaml") if path.name not in listed]
        assert unused in ([], ["kustomization.yaml"]), folder
