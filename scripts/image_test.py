"""`make image-test`: builds the Dockerfile's targets, and runs each image as its user on a read-only root.

Works without Docker and without a registry, as root on Linux: `debootstrap` makes a stand-in for the base image, with
Debian's Python; `buildah` builds in a chroot; containers run in namespaces of their own, without a network.
The settings of this machine for pip and uv, its proxies and its certificate authorities apply to the builds.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from tests.server.tiny_bundles import publish_tiny_bundle

ROOT: Final = Path(__file__).parents[1]
PROGRAMS: Final = ("buildah", "debootstrap", "ip", "nsenter", "setpriv", "unshare")
TARGETS: Final = ("server", "server-gpu", "trainer")
STAND_IN_PACKAGES: Final = ("ca-certificates", "python3-pip", "python3-venv")
AUTHORITIES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
SETTINGS: Final = re.compile(r"(PIP|UV)_\w+|SSL_CERT_FILE|(https?|no)_proxy", re.IGNORECASE)
PIP_SETTINGS: Final = (Path("/etc/pip.conf"), Path.home() / ".config" / "pip" / "pip.conf")
STOP_TIMEOUT_S: Final = 60
LINE: Final = "import client; print(client.GanClient('127.0.0.1:50051').generate('tiny', seed=1, count=3).shape)"
# Fails for want of the driver alone, which no image has.
LOADS_CUDA: Final = """
import ctypes, pathlib, onnxruntime
onnxruntime.preload_dlls()
folder = pathlib.Path(onnxruntime.__file__).parent / "capi"
ctypes.CDLL(folder / "libonnxruntime_providers_shared.so", ctypes.RTLD_GLOBAL)
try:
    ctypes.CDLL(folder / "libonnxruntime_providers_cuda.so")
except OSError as error:
    print(error)
"""
# The arguments are the root, the user, and the command with its environment; mounts come as lines "SOURCE TARGET MODE".
CONTAINER: Final = r"""
set -e
root=$1 user=$2; shift 2
mount --make-rprivate /
mount --bind "$root" "$root"
echo "$MOUNTS" | while read -r source target mode; do
    [ -z "$source" ] && continue
    mkdir -p "$root$target"
    mount --bind "$source" "$root$target"
    mount -o "remount,bind,$mode" "$root$target"
done
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -o remount,bind,ro "$root"
ip link set lo up
exec chroot "$root" setpriv --reuid "${user%:*}" --regid "${user#*:}" --clear-groups --no-new-privs --inh-caps=-all \
    --bounding-set=-all env -i "$@"
"""


class FailedError(Exception):
    """An image does not do what it should."""


class Buildah:
    """buildah with a storage of its own below a folder."""

    def __init__(self, folder: Path) -> None:
        storage = ("--root", str(folder / "root"), "--runroot", str(folder / "run"), "--storage-driver", "vfs")
        self._command = ("buildah", *storage)

    def __call__(self, *arguments: str) -> str:
        """Runs a command of buildah, and returns its output."""
        done = subprocess.run([*self._command, *arguments], stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout.strip()

    def show(self, *arguments: str) -> None:
        """Runs a command of buildah with its output visible."""
        subprocess.run([*self._command, *arguments], check=True)

    def config(self, image: str) -> dict[str, Any]:
        """What the Dockerfile says about running an image, by the names of Docker."""
        config: dict[str, Any] = json.loads(self("inspect", "--type", "image", image))["Docker"]["config"]
        return config

    @contextmanager
    def unpacked(self, image: str) -> Iterator[Path]:
        """The root of a new container of an image."""
        container = self("from", "--pull-never", image)
        try:
            yield Path(self("mount", container))
        finally:
            self("rm", container)


class Container:
    """A container of an image, which runs in namespaces of its own.

    Args:
        root: its unpacked files.
        config: of the image.
        mounts: lines "SOURCE TARGET MODE".
    """

    def __init__(self, root: Path, config: dict[str, Any], mounts: str) -> None:
        self._root = root
        self._config = config
        self._mounts = mounts

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Starts a command as the user of the image, with read-only files."""
        directory = self._config["WorkingDir"] or "/"
        namespaces = ("unshare", "--mount", "--pid", "--net", "--ipc", "--fork", "--kill-child")
        inside = ("env", f"--chdir={directory}", *command)
        words = (*namespaces, "sh", "-c", CONTAINER, "sh", str(self._root), self._config["User"], *self._env(), *inside)
        environment = {"PATH": os.environ["PATH"], "MOUNTS": self._mounts}
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end."""
        with self.start(*command) as process:
            stdout, stderr = process.communicate()
        return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)

    def enter(self, process: subprocess.Popen[str], *command: str) -> subprocess.CompletedProcess[str]:
        """Runs another command beside the one that `start` started, as Docker runs a health check."""
        pid = self.pid(process)
        user, group = self._config["User"].split(":")
        words = (
            "nsenter",
            f"--target={pid}",
            "--mount",
            "--net",
            "--pid",
            "--root",
            "--wd",
            f"--setuid={user}",
            f"--setgid={group}",
        )
        return subprocess.run(
            [*words, "env", "-i", *self._env(), *command], capture_output=True, text=True, check=False
        )

    @staticmethod
    def pid(process: subprocess.Popen[str]) -> int:
        """The first process of the container, a child of unshare."""
        return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())

    def _env(self) -> list[str]:
        return [setting for setting in self._config["Env"] if not SETTINGS.fullmatch(setting.partition("=")[0])]


def base_image() -> str:
    """The image that the Dockerfile starts from."""
    [name] = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    return str(name)


def make_base(buildah: Buildah, folder: Path) -> None:
    """Makes the stand-in for the base image: Debian with its Python, and the settings of this machine for indexes."""
    root = folder / "debian"
    suite = base_image().rpartition("-")[2]
    packages = ",".join(STAND_IN_PACKAGES)
    debootstrap = ("debootstrap", "--variant=minbase", f"--include={packages}")
    subprocess.run([*debootstrap, suite, str(root)], check=True)
    (root / "usr/bin/python").symlink_to("python3")
    for file in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):  # in Python's images, pip installs anywhere
        file.unlink()
    for file in root.glob("usr/lib/python3*/**/*.pyc"):  # Python's images have none
        file.unlink()
    shutil.copy(AUTHORITIES, root / AUTHORITIES.relative_to("/"))
    for file in filter(Path.is_file, PIP_SETTINGS):
        shutil.copy(file, root / "etc" / "pip.conf")
    container = buildah("from", "scratch")
    buildah("add", "--quiet", container, str(root), "/")
    for name in filter(SETTINGS.fullmatch, os.environ):
        buildah("config", "--env", f"{name}={os.environ[name]}", container)
    buildah("commit", "--quiet", "--rm", container, f"docker.io/library/{base_image()}")
    shutil.rmtree(root)


def build(buildah: Buildah, target: str) -> str:
    """Builds a target of the Dockerfile; returns the name of the image."""
    image = f"localhost/ganserve-{target}"
    options = ("--isolation", "chroot", "--pull-never", "--format", "docker")
    buildah.show("bud", *options, "--target", target, "--tag", image, str(ROOT))
    return image


def check_server(container: Container, config: dict[str, Any]) -> None:
    """The server answers its health check and a request, and ends on SIGTERM."""
    process = container.start(*config["Entrypoint"], *config["Cmd"], "--log-format", "json", "--lame-duck-s", "0")
    with process:
        try:
            assert process.stdout is not None
            if not any(line.startswith("ready:") for line in process.stdout):
                raise FailedError(f"the server did not start: {process.communicate()[1]}")
            expect(container.enter(process, *config["Healthcheck"]["Test"][1:]), "serving: ")
            expect(container.enter(process, "python", "-c", LINE), "(3, 4, 6, 3)")
            os.kill(container.pid(process), 15)
            _, stderr = process.communicate(timeout=STOP_TIMEOUT_S)
        finally:
            process.kill()
    if process.returncode:
        raise FailedError(f"the server ended with exit code {process.returncode}: {stderr}")
    for line in stderr.splitlines():
        try:
            json.loads(line)
        except ValueError as error:
            raise FailedError(f"a line of the log is not JSON: {line}") from error


def expect(done: subprocess.CompletedProcess[str], output: str) -> None:
    """Checks that a command has succeeded and printed something.

    Raises:
        FailedError: it has not.
    """
    if done.returncode or output not in done.stdout:
        raise FailedError(f"{done.args}: exit code {done.returncode}, {done.stdout}{done.stderr}")


def check_trainer(container: Container) -> None:
    """The trainer trains, and the exporter publishes the result."""
    one_thread = ("env", "OMP_NUM_THREADS=1")  # threads of busy cores wait for each other
    expect(container.run(*one_thread, "python", "-m", "trainer", "--model", "gan", "--steps", "20"), "runs/0001")
    expect(container.run(*one_thread, "python", "-m", "exporter", "runs/0001-gan-digits"), "models/gan/1")


def check(buildah: Buildah, target: str, image: str, folder: Path) -> int:
    """Checks one image; returns its size in MB.

    Raises:
        FailedError: it does not do what it should.
    """
    config = buildah.config(image)
    work, models = folder / "work", folder / "models"
    work.mkdir(exist_ok=True)
    os.chown(work, *map(int, config["User"].split(":")))
    mounts = f"{work} /work rw" if target == "trainer" else f"{models} /models ro"
    with buildah.unpacked(image) as root:
        size_mb = sum(file.lstat().st_size for file in root.rglob("*")) // 1_000_000
        container = Container(root, config, mounts)
        if container.run("sh", "-c", "echo > /tmp/x").returncode == 0:
            raise FailedError("the root is not read-only")
        if target == "trainer":
            check_trainer(container)
        else:
            check_server(container, config)
        if target == "server-gpu":
            expect(container.run("python", "-c", LOADS_CUDA), "libcuda.so.1: cannot open")
    return size_mb


def missing() -> str | None:
    """Why images cannot be tested here; None if they can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux"
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"needs {', '.join(absent)}: apt-get install buildah debootstrap iproute2 util-linux" if absent else None


@contextmanager
def workspace(folder: Path | None) -> Iterator[Path]:
    """The folder for images: the given one, or a temporary one."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder.resolve()
        return
    with tempfile.TemporaryDirectory(dir="/var/tmp", ignore_cleanup_errors=True) as name:
        yield Path(name)


@click.command(help=(__doc__ or "").partition("\n\n")[2])
@click.argument("targets", nargs=-1, type=click.Choice(TARGETS))
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), help="Keeps the images here.")
def main(targets: tuple[str, ...], folder: Path | None) -> None:
    """Builds and checks the targets one after the other, by default all."""
    reason = missing()
    if reason:
        raise click.ClickException(f"image-test {reason}")
    with workspace(folder) as work:
        work.chmod(0o755)  # the user of the image reads the models
        buildah = Buildah(work)
        for name in ("models", "work"):  # of a run before
            shutil.rmtree(work / name, ignore_errors=True)
        publish_tiny_bundle(work / "models")
        if not buildah("images", "--quiet", "--filter", f"reference={base_image()}"):
            make_base(buildah, work)
        for target in targets or TARGETS:
            started = time.monotonic()
            image = build(buildah, target)
            built = time.monotonic()
            try:
                megabytes = check(buildah, target, image, work)
            except FailedError as error:
                raise click.ClickException(f"{target}: {error}") from error
            seconds = f"built in {built - started:.0f} s, checked in {time.monotonic() - built:.0f} s"
            print(f"{target}: {megabytes:,} MB, {seconds}", flush=True)
            if folder is None:
                buildah("rmi", "--force", image)


if __name__ == "__main__":
    main()
