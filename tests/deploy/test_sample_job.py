"""deploy/kubernetes/sample-job.yaml: its pods may call the server, and together write every image once."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click
import pytest
import yaml

from client.__main__ import cli as ganclient
from ganserve.command_line import USER_ERROR
from tests.deploy import manifests
from tests.deploy.manifests import DEPLOY

CLAIM, JOB = yaml.safe_load_all((DEPLOY / "kubernetes" / "sample-job.yaml").read_text())
SPEC: Final[dict[str, Any]] = JOB["spec"]
POD: Final[dict[str, Any]] = SPEC["template"]["spec"]
SERVER: Final = manifests.only(manifests.kubernetes("base"), "Deployment")["spec"]["template"]["spec"]
[CONTAINER] = POD["containers"]


def values(index: int) -> dict[str, Any]:
    """The values of all flags in the pod with an index.

    Raises:
        click.UsageError: a flag does not exist, or its value is invalid.
    """
    words = [word.replace("$(JOB_COMPLETION_INDEX)", str(index)) for word in CONTAINER["args"]]
    program, command = CONTAINER["command"]
    assert program == "ganclient"
    return ganclient.commands[command].make_context(command, words).params


def mounted(name: str) -> str:
    [mount] = [mount for mount in CONTAINER["volumeMounts"] if mount["name"] == name]
    return str(mount["mountPath"])


def test_every_pod_writes_its_own_part_to_the_claim() -> None:
    parts = [values(index) for index in range(SPEC["completions"])]
    assert SPEC["completionMode"] == "Indexed"
    assert [part["shard"] for part in parts] == [*range(SPEC["completions"])]
    assert {part["shards"] for part in parts} == {SPEC["completions"]}
    assert len({part["out"] for part in parts}) == SPEC["completions"]
    assert {part["out"].parent for part in parts} == {Path(mounted("samples"))}
    [volume] = [of["persistentVolumeClaim"] for of in POD["volumes"] if of["name"] == "samples"]
    assert volume["claimName"] == CLAIM["metadata"]["name"]


def test_all_parts_name_the_same_images() -> None:
    first, *others = ({key: values(i)[key] for key in ("model", "version", "n", "seed")} for i in range(3))
    assert None not in first.values()
    assert all(other == first for other in others)


def test_a_misspelt_flag_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONTAINER, "args", [*CONTAINER["args"], "--shardz=8"])
    with pytest.raises(click.UsageError):
        values(0)


def test_the_pods_reach_the_server_and_have_its_token() -> None:
    rendered = manifests.kubernetes("base")
    service = manifests.only(rendered, "Service")
    address = f"dns:///{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    assert f"--address={address}" in CONTAINER["args"]
    [peer] = manifests.only(rendered, "NetworkPolicy")["spec"]["ingress"][0]["from"]
    labels = SPEC["template"]["metadata"]["labels"]
    assert peer["podSelector"]["matchLabels"].items() <= labels.items()
    assert service["spec"]["selector"].items() - labels.items()  # they are no servers
    [secret] = [of["secret"] for of in POD["volumes"] if "secret" in of]
    assert secret in [of["secret"] for of in SERVER["volumes"] if "secret" in of]
    assert f"--token-file={mounted('tokens')}/tokens" in CONTAINER["args"]


def test_the_pods_run_as_the_user_of_the_image_without_rights() -> None:
    assert POD["securityContext"] == SERVER["securityContext"]
    assert CONTAINER["securityContext"] == SERVER["containers"][0]["securityContext"]


def test_only_a_mistake_of_the_user_ends_the_job_at_once() -> None:
    [rule] = SPEC["podFailurePolicy"]["rules"]
    assert (rule["action"], rule["onExitCodes"]["values"]) == ("FailJob", [USER_ERROR])
    assert POD["restartPolicy"] == "Never"
    assert SPEC["backoffLimitPerIndex"] > 0
