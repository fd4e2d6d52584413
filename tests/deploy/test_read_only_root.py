"""A server with the flags of the Deployment serves as the user of the image, on a read-only file system."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from client import GanClient
from tests.deploy import manifests
from tests.deploy.manifests import ROOT
from tests.server.tiny_bundles import publish_tiny_bundle

pytestmark = pytest.mark.slow

TOKEN: Final = "a-token-of-the-test"
TIMEOUT_S: Final = 60.0
# Remounts everything read-only in a mount namespace of its own. The tests' Python may lie in the home of root, so the
# user may read everything; it may write nothing.
SCRIPT: Final = """
awk '{print $5}' /proc/self/mountinfo | grep -vE '^/(proc|sys|dev)(/|$)' | while read point; do
    mount -o remount,ro,bind "$point" || exit 1
done
if touch "$HERE/x" 2>/dev/null; then echo "writable: $HERE"; exit 1; fi
cd / && exec setpriv --reuid "$ID" --regid "$ID" --clear-groups --no-new-privs \
    --inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search "$@"
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may read; those of pytest belong to the user of the tests."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_the_server_needs_neither_rights_nor_a_writable_file_system(folder: Path) -> None:
    if sys.platform != "linux" or os.geteuid() != 0 or not (shutil.which("unshare") and shutil.which("setpriv")):
        pytest.skip("only root may make a mount namespace, with unshare and setpriv")
    publish_tiny_bundle(folder / "models")
    (folder / "tokens").write_text(f"{TOKEN}\n")
    pod = manifests.only(manifests.kubernetes("base"), "Deployment")["spec"]["template"]["spec"]
    given = {flag.partition("=")[0]: flag.partition("=")[2] for flag in pod["containers"][0]["args"]}
    given |= {"--address": "127.0.0.1:0", "--metrics-address": "127.0.0.1:0", "--models": str(folder / "models")}
    given |= {"--token-file": str(folder / "tokens"), "--lame-duck-s": "0"}
    flags = [f"{flag}={value}" for flag, value in given.items()]
    here = {"HERE": str(folder), "ID": str(pod["securityContext"]["runAsUser"]), "PYTHONPATH": str(ROOT)}
    command = ["unshare", "--mount", "sh", "-c", SCRIPT, "sh", sys.executable, "-m", "server", *flags]
    environment = {"PATH": os.environ["PATH"], **here}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            ready = next((line for line in process.stdout if line.startswith("ready:")), None)
            assert ready is not None, process.communicate()
            owner = Path(f"/proc/{process.pid}/status").read_text()
            assert re.search(r"^Uid:\s+10001\s+10001\s+10001\s+10001$", owner, re.MULTILINE)
            address = ready.partition(" on ")[2].partition(",")[0]
            with GanClient(address, token=TOKEN) as client:
                assert client.generate("tiny", seed=1, count=3).shape[0] == 3
            process.send_signal(signal.SIGTERM)
            assert process.wait(TIMEOUT_S) == 0
        finally:
            process.kill()
