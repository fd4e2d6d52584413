"""The sidecar that fetches models, and the image that holds them, agree with the server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import click
import pytest

from ganserve.urls import is_url
from server.__main__ import main as server
from tests.deploy import manifests
from tests.deploy.manifests import DEPLOY
from tests.server.remote.remotes import content
from tests.server.tiny_bundles import publish_tiny_bundle

RENDERED: Final = manifests.kubernetes("overlays/fetch-models")
POD: Final[dict[str, Any]] = manifests.only(RENDERED, "Deployment")["spec"]["template"]["spec"]
IMAGE: Final = (DEPLOY / "model-image" / "Dockerfile").read_text()


def flags(sidecar: dict[str, Any]) -> dict[str, Any]:
    """The values of the arguments and flags of `fetch`.

    Raises:
        SystemExit: a flag does not exist, or its value is invalid.
    """
    assert sidecar["command"] == ["python", "-m", "server", "fetch"]
    assert isinstance(server, click.Group)
    return server.commands["fetch"].make_context("fetch", list(sidecar["args"])).params


def test_the_sidecar_fetches_into_the_folder_that_the_server_follows() -> None:
    [sidecar], [container] = POD["initContainers"], POD["containers"]
    given, served = flags(sidecar), manifests.server_flags(container["args"])
    assert is_url(given["url"])
    assert given["folder"] == served["models"]
    assert served["model_control"] == "poll"
    assert given["every_s"] >= served["poll_s"]
    assert sidecar["restartPolicy"] == "Always"
    for of, read_only in ((sidecar, False), (container, True)):
        [mount] = [mount for mount in of["volumeMounts"] if mount["name"] == "models"]
        assert (mount["mountPath"], mount.get("readOnly", False)) == (str(given["folder"]), read_only)
    assert [{*volume} for volume in POD["volumes"] if volume["name"] == "models"] == [{"name", "emptyDir"}]


def test_a_misspelt_flag_of_the_sidecar_would_be_found(capsys: pytest.CaptureFixture[str]) -> None:
    [sidecar] = POD["initContainers"]
    with pytest.raises(SystemExit):
        flags({**sidecar, "args": [*sidecar["args"], "--all=5"]})
    assert "--all" in capsys.readouterr().err


def test_the_sidecar_has_the_image_and_no_more_rights_than_the_server() -> None:
    [sidecar], [container] = POD["initContainers"], POD["containers"]
    assert sidecar["image"] == container["image"]
    assert sidecar["securityContext"] == container["securityContext"]


def test_the_server_starts_once_a_version_is_there(tmp_path: Path) -> None:
    [sidecar] = POD["initContainers"]
    shell, option, script = sidecar["startupProbe"]["exec"]["command"]
    command = [shell, option, script.replace("/models", str(tmp_path))]
    (tmp_path / ".staging" / "x" / "1").mkdir(parents=True)
    (tmp_path / ".staging" / "x" / "1" / "card.json").touch()
    (tmp_path / "tiny").mkdir()
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0
    publish_tiny_bundle(tmp_path)
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_only_this_overlay_may_open_connections() -> None:
    egress = {
        name: manifests.only(manifests.kubernetes(name), "NetworkPolicy")["spec"].get("egress")
        for name in manifests.KUSTOMIZATIONS
    }
    open_ones = {name: rules for name, rules in egress.items() if rules}
    assert [*open_ones] == ["overlays/fetch-models"]
    [rule] = open_ones["overlays/fetch-models"]
    assert {port["port"] for port in rule["ports"]} == {53, 443}


def test_the_model_image_has_what_kserve_runs_in_it_and_the_models() -> None:
    lines = [line for line in IMAGE.splitlines() if not line.startswith("#")]
    busybox = re.findall(r"image: (busybox:\S+)", (DEPLOY / "kubernetes" / "models.yaml").read_text())
    assert lines == [f"FROM {busybox[0]}", "COPY . /models"]
    runtime = manifests.load("kserve/servingruntime.yaml")["spec"]["containers"][0]
    assert manifests.server_flags(runtime["args"])["models"] == Path("/mnt/models")  # where KServe links /models


@pytest.mark.slow
def test_buildah_makes_the_model_image(tmp_path: Path) -> None:
    buildah = shutil.which("buildah")
    if buildah is None or os.geteuid() != 0:
        pytest.skip("needs buildah and root")
    publish_tiny_bundle(tmp_path / "models")
    store = ["--root", str(tmp_path / "store"), "--runroot", str(tmp_path / "run"), "--storage-driver", "vfs"]

    def run(*arguments: str) -> str:
        done = subprocess.run([buildah, *store, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    # The base is on a registry; what is tested is the line that copies.
    file = str(DEPLOY / "model-image" / "Dockerfile")
    run("build", "--isolation", "chroot", "--from", "scratch", "--file", file, "--tag", "m", str(tmp_path / "models"))
    container = run("from", "m")
    mounted = Path(run("mount", container))
    try:
        assert content(mounted) == {f"models/{path}": text for path, text in content(tmp_path / "models").items()}
        assert all(path.stat().st_mode & 0o004 for path in mounted.rglob("*") if path.is_file())
    finally:
        run("umount", container)
