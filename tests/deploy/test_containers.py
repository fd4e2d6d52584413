"""What the manifests say about our container is true of the server and of the Dockerfile."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ganserve.v1 import generator_pb2, model_control_pb2
from server.config import ServerConfig
from server.memory import shortage
from tests.deploy import manifests
from tests.deploy.manifests import KUSTOMIZATIONS, ROOT
from tests.server.tiny_bundles import publish_tiny_bundle

KUBERNETES_GRACE_S: Final = 30  # of pods that name no other
MARGIN_S: Final = 5  # to close connections and end the process
USED_BYTES: Final = 300 << 20  # by a server with a few small models
GIB: Final = 1 << 30
TIMEOUT_S: Final = 30
VERSION: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@dataclass(frozen=True)
class Host:
    """A container of our image, as a manifest describes it."""

    container: dict[str, Any]
    pod: dict[str, Any]

    @property
    def flags(self) -> dict[str, Any]:
        return manifests.server_flags(self.container["args"])

    @property
    def ports(self) -> dict[str, int]:
        return {port["name"]: port["containerPort"] for port in self.container["ports"]}

    def probe(self, name: str) -> tuple[str, int, str]:
        """How a probe asks: by `http` or `grpc`, at which port, and for which path or service."""
        probe = self.container[f"{name}Probe"]
        if "grpc" in probe:
            return "grpc", probe["grpc"]["port"], probe["grpc"].get("service", "")
        port = probe["httpGet"]["port"]
        return "http", self.ports.get(port, port), probe["httpGet"]["path"]


def host_of(name: str) -> Host:
    if name == "kserve":
        spec = manifests.load("kserve/servingruntime.yaml")["spec"]
        return Host(spec["containers"][0], spec)
    pod = manifests.only(manifests.kubernetes(name), "Deployment")["spec"]["template"]["spec"]
    return Host(pod["containers"][0], pod)


HOSTS: Final = (*KUSTOMIZATIONS, "kserve")
COMPOSE: Final = manifests.load("compose.yaml")
SERVICE: Final = COMPOSE["services"]["ganserve"]


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest) -> Host:
    return host_of(request.param)


def test_every_flag_exists_and_has_a_valid_value(host: Host) -> None:
    flags = host.flags
    assert flags["lame_duck_s"] >= ServerConfig.lame_duck_s


def test_a_misspelt_flag_would_be_found(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        manifests.server_flags(["--drain-timeout=30"])
    assert "--drain-timeout-s" in capsys.readouterr().err


def test_the_server_listens_where_the_ports_lead(host: Host) -> None:
    address, http_address = host.flags["address"], host.flags["metrics_address"]
    assert address.host == http_address.host == "0.0.0.0"
    assert address.port in host.ports.values()
    assert host.ports.get("metrics", http_address.port) == http_address.port
    assert host.flags["models"] == Path("/mnt/models" if "h2c" in host.ports else "/models")


@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_ports_are_the_defaults_of_the_server_and_the_dockerfile(name: str) -> None:
    metrics = ServerConfig.metrics_address
    assert metrics is not None
    assert host_of(name).ports == {"grpc": ServerConfig.address.port, "metrics": metrics.port}
    service = manifests.only(manifests.kubernetes(name), "Service")
    for port in service["spec"]["ports"]:
        assert port["port"] == host_of(name).ports[port["targetPort"]]
    assert manifests.dockerfile("EXPOSE") == [str(ServerConfig.address.port)]


def test_the_grace_period_covers_the_lame_duck_and_the_drain(host: Host) -> None:
    grace_s = host.pod.get("terminationGracePeriodSeconds", KUBERNETES_GRACE_S)
    assert grace_s >= host.flags["lame_duck_s"] + host.flags["drain_timeout_s"] + MARGIN_S


def test_a_server_that_stops_serves_on_until_its_readiness_probe_has_failed(host: Host) -> None:
    probe = host.container["readinessProbe"]
    assert (
        host.flags["lame_duck_s"] > probe["periodSeconds"] * probe.get("failureThreshold", 3) + probe["timeoutSeconds"]
    )


def test_limits_of_memory_suffice_for_requests_in_progress(host: Host) -> None:
    requests, limits = host.container["resources"]["requests"], host.container["resources"]["limits"]
    assert requests == limits  # the pod is the last to be evicted, and gets the cores that the server counts
    config = {key: value for key, value in host.flags.items() if key in ServerConfig.__dataclass_fields__}
    limit_bytes = int(limits["memory"].removesuffix("Gi")) * GIB
    assert shortage(ServerConfig(**config), limit_bytes, USED_BYTES) is None


def test_the_container_runs_as_the_user_of_the_image_without_rights(host: Host) -> None:
    [user] = [line for line in manifests.dockerfile("RUN") if line.startswith("useradd")]
    uid = int(re.findall(r"--uid (\d+)", user)[0])
    rights = {**host.pod.get("securityContext", {}), **host.container["securityContext"]}
    assert rights["runAsUser"] == uid
    assert rights["runAsNonRoot"]
    assert rights["readOnlyRootFilesystem"]
    assert not rights["allowPrivilegeEscalation"]
    assert rights["capabilities"] == {"drop": ["ALL"]}
    mounts = host.container.get("volumeMounts", [])
    assert all(mount["readOnly"] for mount in mounts)


def test_the_image_has_the_version_of_the_project(host: Host) -> None:
    assert re.fullmatch(
        rf"(?:registry\.example\.org/)?ganserve:{re.escape(VERSION)}(?:-cuda)?", host.container["image"]
    )
    assert SERVICE["image"] == f"ganserve:{VERSION}"
    assert (
        f"image: registry.example.org/ganserve:{VERSION}\n"
        in (manifests.DEPLOY / "kubernetes/sample-job.yaml").read_text()
    )


def test_only_the_gpu_overlay_asks_for_a_gpu() -> None:
    for name in HOSTS:
        wants_gpu = "nvidia.com/gpu" in host_of(name).container["resources"]["limits"]
        assert wants_gpu == (name == "overlays/gpu")
        assert host_of(name).flags["device"] == ("cuda" if wants_gpu else "auto")
        assert host_of(name).container["image"].endswith("-cuda") == wants_gpu


def test_kserve_finds_the_grpc_port_first_and_the_metrics() -> None:
    runtime = manifests.load("kserve/servingruntime.yaml")
    service = manifests.load("kserve/inferenceservice.yaml")
    host = host_of("kserve")
    assert host.container["name"] == "kserve-container"
    assert host.container["ports"] == [{"name": "h2c", "containerPort": host.flags["address"].port, "protocol": "TCP"}]
    annotations = runtime["spec"]["annotations"]
    assert annotations["prometheus.kserve.io/port"] == str(host.flags["metrics_address"].port)
    model = service["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["modelFormat"]["name"] in {of["name"] for of in runtime["spec"]["supportedModelFormats"]}
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]


def test_the_pod_that_copies_models_writes_to_the_claim_that_the_servers_read() -> None:
    claim, pod = yaml.safe_load_all((manifests.DEPLOY / "kubernetes" / "models.yaml").read_text())
    [reads] = [of["persistentVolumeClaim"] for of in host_of("base").pod["volumes"] if of["name"] == "models"]
    [writes] = [of["persistentVolumeClaim"] for of in pod["spec"]["volumes"]]
    assert claim["metadata"]["name"] == writes["claimName"] == reads["claimName"]
    assert reads["readOnly"]
    assert pod["spec"]["securityContext"] == host_of("base").pod["securityContext"]
    storage = manifests.load("kserve/inferenceservice.yaml")["spec"]["predictor"]["model"]["storageUri"]
    assert storage == f"pvc://{claim['metadata']['name']}"


@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_everything_selects_the_pods_of_the_deployment(name: str) -> None:
    rendered = manifests.kubernetes(name)
    deployment = manifests.only(rendered, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    spread = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
    selectors = [deployment["spec"]["selector"], *(of["labelSelector"] for of in spread)]
    selectors += [manifests.only(rendered, "PodDisruptionBudget")["spec"]["selector"]]
    selectors += [manifests.only(rendered, "NetworkPolicy")["spec"]["podSelector"]]
    service = manifests.only(rendered, "Service")
    assert all(selector["matchLabels"] == labels for selector in selectors)
    assert service["spec"]["selector"] == labels
    for ingress in manifests.only(rendered, "NetworkPolicy")["spec"]["ingress"]:
        assert {port["port"] for port in ingress["ports"]} <= host_of(name).ports.keys()


@pytest.mark.parametrize(
    ("name", "scaler"),
    [
        ("base", "HorizontalPodAutoscaler"),
        ("overlays/gateway", "HorizontalPodAutoscaler"),
        ("overlays/fetch-models", "HorizontalPodAutoscaler"),
        ("overlays/keda", "ScaledObject"),
        ("overlays/gpu", None),
    ],
)
def test_either_one_scaler_or_the_deployment_sets_the_replicas(name: str, scaler: str | None) -> None:
    rendered = manifests.kubernetes(name)
    deployment = manifests.only(rendered, "Deployment")
    found = {of["kind"]: of["spec"] for of in rendered if of["kind"] in {"HorizontalPodAutoscaler", "ScaledObject"}}
    assert [*found] == ([scaler] if scaler else [])
    assert deployment["spec"].get("replicas") == (None if scaler else 2)
    for spec in found.values():
        assert spec["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
        assert spec.get("minReplicas", spec.get("minReplicaCount")) == 2


def test_keda_adds_replicas_when_70_percent_of_the_cores_are_busy() -> None:
    triggers = manifests.only(manifests.kubernetes("overlays/keda"), "ScaledObject")["spec"]["triggers"]
    cores = int(host_of("overlays/keda").container["resources"]["limits"]["cpu"])
    [threshold] = [of["metadata"]["threshold"] for of in triggers if "busy_core" in of["metadata"]["query"]]
    assert float(threshold) == pytest.approx(0.7 * cores)
    [threshold] = [of["metadata"]["threshold"] for of in triggers if "queue_rows" in of["metadata"]["query"]]
    assert int(threshold) == ServerConfig.max_batch_size


def test_the_gateway_routes_services_of_the_server_but_not_model_control() -> None:
    from tritonclient.grpc import service_pb2

    rendered = manifests.kubernetes("overlays/gateway")
    route, gateway = manifests.only(rendered, "GRPCRoute"), manifests.only(rendered, "Gateway")
    [rule] = route["spec"]["rules"]
    routed = {match["method"]["service"] for match in rule["matches"]}
    files = (generator_pb2, model_control_pb2, service_pb2, health_pb2)
    served = {service.full_name for file in files for service in file.DESCRIPTOR.services_by_name.values()}
    assert served - routed == {"ganserve.v1.ModelControl"}
    assert routed <= served
    [backend] = rule["backendRefs"]
    assert backend == {"name": "ganserve", "port": ServerConfig.address.port}
    assert route["spec"]["parentRefs"] == [{"name": gateway["metadata"]["name"]}]
    assert route["spec"]["hostnames"] == [of["hostname"] for of in gateway["spec"]["listeners"]]


def test_all_components_fit_together(tmp_path: Path) -> None:
    shutil.copytree(manifests.DEPLOY / "kubernetes", tmp_path / "kubernetes")
    mine = tmp_path / "mine"
    mine.mkdir()
    components = "".join(f"- ../kubernetes/components/{name}\n" for name in ("gpu", "keda", "gateway", "fetch-models"))
    image = "images:\n- {name: ganserve, newName: registry.test/ganserve}\n"
    (mine / "kustomization.yaml").write_text(f"resources: [../kubernetes/base]\ncomponents:\n{components}{image}")
    rendered = manifests.render(mine)
    for manifest in rendered:
        manifests.check(manifest)
    assert {manifest["kind"] for manifest in rendered} >= {"ScaledObject", "GRPCRoute", "Gateway"}
    assert "HorizontalPodAutoscaler" not in {manifest["kind"] for manifest in rendered}
    pod = manifests.only(rendered, "Deployment")["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == f"registry.test/ganserve:{VERSION}-cuda"


def test_the_compose_service_agrees_with_the_server() -> None:
    flags = manifests.server_flags(SERVICE["command"])
    assert flags["address"].host == flags["metrics_address"].host == "0.0.0.0"
    assert flags["address"].port == ServerConfig.address.port
    grace_s = int(SERVICE["stop_grace_period"].removesuffix("s"))
    assert grace_s >= flags["lame_duck_s"] + flags["drain_timeout_s"] + MARGIN_S
    limit_bytes = int(SERVICE["deploy"]["resources"]["limits"]["memory"].removesuffix("G")) * GIB
    assert shortage(ServerConfig(), limit_bytes, USED_BYTES) is None
    assert flags["token_file"] == Path("/run/secrets/tokens")
    assert SERVICE["secrets"] == ["tokens"]
    assert "../models:/models:ro" in SERVICE["volumes"]


def test_the_compose_file_mounts_files_that_exist() -> None:
    mounted = [volume.split(":")[0] for of in COMPOSE["services"].values() for volume in of.get("volumes", [])]
    missing = [source for source in mounted if source != "../models" and not (manifests.DEPLOY / source).is_file()]
    assert len(mounted) > 5
    assert not missing


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def asked(kind: str, ports: dict[str, int], what: str) -> bool:
    """Whether a probe succeeds."""
    if kind == "http":
        return status_of(f"http://127.0.0.1:{ports['http']}{what}") == 200
    with grpc.insecure_channel(f"127.0.0.1:{ports['grpc']}") as channel:
        request = health_pb2.HealthCheckRequest(service=what)
        answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=TIMEOUT_S)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def test_probes_call_what_exists_and_a_stopping_server_is_alive_but_not_ready(tmp_path: Path) -> None:
    publish_tiny_bundle(tmp_path / "models", name="tiny")
    flags = ["--models", str(tmp_path / "models"), "--address", "127.0.0.1:0", "--metrics-address", "127.0.0.1:0"]
    command = [sys.executable, "-m", "server", *flags, "--device", "cpu", "--lame-duck-s", str(TIMEOUT_S)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            ready = next(line for line in process.stdout if line.startswith("ready:"))
            grpc_port, http_port = map(int, re.findall(r"127\.0\.0\.1:(\d+)", ready))
            ports = {"grpc": grpc_port, "http": http_port}
            probes = {(name, *host_of(of).probe(name)) for of in HOSTS for name in ("liveness", "readiness")}
            assert {kind for _, kind, _, _ in probes} == {"http", "grpc"}
            assert all(asked(kind, ports, what) for _, kind, _, what in probes)
            assert not asked("http", ports, "/livez")  # the negative control
            process.send_signal(signal.SIGTERM)
            assert any("stopping" in line for line in process.stderr)
            for name, kind, _, what in probes:
                assert asked(kind, ports, what) == (name == "liveness")
        finally:
            process.kill()


def test_probes_ask_the_port_that_answers_them(host: Host) -> None:
    ports = {"http": host.flags["metrics_address"].port, "grpc": host.flags["address"].port}
    for name in ("liveness", "readiness"):
        kind, port, _ = host.probe(name)
        assert port == ports[kind]
