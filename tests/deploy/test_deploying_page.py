"""docs/deploying.md: its commands run as far as they can here, and what they name exists."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from client.__main__ import cli as ganclient
from server.__main__ import main as server
from tests.deploy import manifests
from tests.deploy.manifests import DEPLOY, ROOT

PAGE: Final = (ROOT / "docs" / "deploying.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


COMMANDS: Final = [line for block in blocks("sh") for line in block.splitlines()]


def test_the_secrets_are_those_of_compose_and_only_the_folder_is_private(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    (tmp_path / "deploy").mkdir()
    [block] = blocks("console")
    script = "set -e\n" + block.replace("$ ", "")
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    secrets = tmp_path / "deploy" / "secrets"
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    named = {Path(of["file"]).name for of in manifests.load("compose.yaml")["secrets"].values()}
    assert {path.name for path in secrets.iterdir()} == named
    assert all(path.stat().st_mode & stat.S_IROTH for path in secrets.iterdir())
    assert "/deploy/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_kustomization_on_the_page_renders_valid_manifests(tmp_path: Path) -> None:
    shutil.copytree(DEPLOY, tmp_path / "ganserve" / "deploy", ignore=shutil.ignore_patterns("secrets"))
    [block] = blocks("yaml")
    (tmp_path / "kustomization.yaml").write_text(block)
    rendered = manifests.render(tmp_path)
    for manifest in rendered:
        manifests.check_namespaced(manifest, "gan")
    found: dict[str, Any] = {manifest["kind"]: manifest for manifest in rendered}
    assert found["Gateway"]["spec"]["listeners"][0]["hostname"] == "gan.example.com"
    assert found["GRPCRoute"]["spec"]["hostnames"] == ["gan.example.com"]
    image = found["Deployment"]["spec"]["template"]["spec"]["containers"][0]["image"]
    assert f"docker build --tag {image} ." in COMMANDS
    assert f"docker push {image}" in COMMANDS


def test_the_secrets_on_the_page_are_those_that_the_manifests_use() -> None:
    made = dict(re.findall(r"kubectl create secret \w+ (\S+) (.*)", PAGE))
    pod = manifests.only(manifests.kubernetes("base"), "Deployment")["spec"]["template"]["spec"]
    [tokens] = [volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume]
    gateway = manifests.only(manifests.kubernetes("overlays/gateway"), "Gateway")
    [certificate] = gateway["spec"]["listeners"][0]["tls"]["certificateRefs"]
    assert made.keys() == {tokens, certificate["name"]}
    flags = manifests.server_flags(pod["containers"][0]["args"])
    [mount] = [of for of in pod["containers"][0]["volumeMounts"] if of["name"] == "tokens"]
    assert str(flags["token_file"]) == f"{mount['mountPath']}/tokens"
    assert "--from-file=tokens=" in made[tokens]


def test_the_names_in_commands_exist() -> None:
    _, pod = yaml.safe_load_all((DEPLOY / "kubernetes" / "models.yaml").read_text())
    assert f"kubectl cp models/. {pod['metadata']['name']}:/models" in COMMANDS
    assert pod["spec"]["containers"][0]["volumeMounts"][0]["mountPath"] == "/models"
    service = manifests.only(manifests.kubernetes("base"), "Service")
    port = service["spec"]["ports"][0]["port"]
    assert f"dns:///{service['metadata']['name']}.gan:{port}" in PAGE
    compose = manifests.load("compose.yaml")["services"]
    [envoy] = [of.split(":")[-2] for of in compose["envoy"]["ports"]]
    assert f"--address localhost:{envoy} " in PAGE
    for name in ("prometheus", "grafana"):
        assert f"http://localhost:{compose[name]['ports'][0].split(':')[1]}" in PAGE
    trigger = manifests.only(manifests.kubernetes("overlays/keda"), "ScaledObject")["spec"]["triggers"][0]
    assert trigger["metadata"]["serverAddress"].removeprefix("http://") in PAGE


def test_the_kustomization_is_applied_from_where_the_page_puts_it() -> None:
    assert "kubectl apply -k .." in COMMANDS  # commands run in the project, and the file is in the folder above


def test_the_certificate_is_valid_for_the_hosts_that_are_called() -> None:
    [names] = re.findall(r"subjectAltName=(\S+)", PAGE)
    hosts = {line.split("--address ")[1].split(":")[0] for line in COMMANDS if line.startswith("ganclient")}
    assert hosts == {name.removeprefix("DNS:") for name in names.split(",") if name.startswith("DNS:")}


def test_the_job_on_the_page_exists_and_its_target_is_one_of_the_dockerfile() -> None:
    *_, job = yaml.safe_load_all((DEPLOY / "kubernetes" / "sample-job.yaml").read_text())
    assert any(line.endswith(f" job/{job['metadata']['name']}") for line in COMMANDS)
    stages = [line.split(" AS ")[1] for line in manifests.dockerfile("FROM")]
    assert {*re.findall(r"--target ([\w-]+)", PAGE)} == {"server-gpu"} & {*stages}


def test_the_paths_on_the_page_exist() -> None:
    named = set(re.findall(r"(?<![\w/])deploy/[\w./-]+", PAGE)) | {
        f"deploy/kubernetes/{name}" for name in re.findall(r"`(components/\w+)`", PAGE)
    }
    missing = [
        name for name in named if not (ROOT / name.rstrip(".")).exists() and not name.startswith("deploy/secrets")
    ]
    assert len(named) > 10
    assert not missing


def test_the_flags_on_the_page_are_those_of_our_commands() -> None:
    commands: list[Any] = [server, ganclient.commands["models"], ganclient.commands["sample"]]
    ours = {option for command in commands for of in command.params for option in of.opts}
    in_prose = set(re.findall(r"`(--[a-z-]+)", re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)))
    asked = {flag for line in COMMANDS if line.startswith("ganclient") for flag in re.findall(r"--[a-z-]+", line)}
    assert not (in_prose | asked) - ours - {"--target"}


def test_the_page_says_what_versions_are_checked() -> None:
    assert " and ".join(manifests.KUBERNETES_VERSIONS) in " ".join(PAGE.split())
