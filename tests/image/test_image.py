"""The container image, run as a container engine would run it: non-root, read-only, its first process tini.

Needs root, buildah and the image that DRAGOMAN_IMAGE names; `make image image-test` builds it and runs this.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_process import SENTENCE

IMAGE = os.environ.get("DRAGOMAN_IMAGE", "")
MAX_MEGABYTES = 400
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not IMAGE or shutil.which("buildah") is None, reason="no image: make image image-test"),
]

# The namespace has its own mounts and process ids, so that the root is read-only and tini is process 1.
ENTER = """
mount --bind "$1" "$1" && mount -t proc proc "$1/proc" && mount -o remount,bind,ro "$1" && cd "$1" || exit 125
shift; user=$1; shift
exec chroot --userspec "$user" . /usr/bin/env -i "$@"
"""


class Image:
    """The image's configuration and its files."""

    def __init__(self, config: dict[str, Any], root: Path) -> None:
        self.config = config
        self.root = root

    def command(self, *arguments: str, environment: tuple[str, ...] = ()) -> list[str]:
        """Return the command that runs these arguments in the image."""
        inside = ["sh", "-c", ENTER, "enter", str(self.root), self.config["User"], *self.config["Env"], *environment]
        return ["unshare", "--mount", "--pid", "--fork", "--kill-child", *inside, *arguments]

    def run(self, *arguments: str, environment: tuple[str, ...] = ()) -> str:
        """Run a command in the image to its end; return what it printed."""
        done = subprocess.run(  # noqa: S603
            self.command(*arguments, environment=environment), check=True, text=True, capture_output=True, timeout=60
        )
        return done.stdout.strip()


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """Mount the image."""

    def buildah(*arguments: str) -> str:
        return subprocess.run(["buildah", *arguments], check=True, text=True, capture_output=True).stdout.strip()  # noqa: S603, S607

    container = buildah("from", "--pull-never", IMAGE)
    try:
        config = json.loads(buildah("inspect", "--type", "image", IMAGE))["Docker"]["config"]
        yield Image(config, Path(buildah("mount", container)))
    finally:
        buildah("rm", container)


@contextlib.contextmanager
def server(image: Image) -> "Iterator[tuple[subprocess.Popen[str], int, str]]":
    """Start the image's own command on free ports; give the process, tini's process id and the address."""
    ports = ("DRAGOMAN_PORT=0", "DRAGOMAN_METRICS_PORT=0", "DRAGOMAN_HOST=127.0.0.1")
    command = image.command(*image.config["Entrypoint"], *image.config["Cmd"], environment=ports)
    started = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # noqa: S603
    try:
        assert started.stdout is not None
        line = started.stdout.readline()
        assert " on " in line, started.communicate()[1]
        children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
        yield started, int(children[0]), line.split(" on ")[1].split(",")[0]
    finally:
        started.kill()
        started.communicate()


def test_it_serves_and_stops(image: Image) -> None:
    """As nobody, on a root that nobody can write, it answers its own probe and client, and SIGTERM ends it well."""
    with server(image) as (started, first, address):
        state = dict(line.split(":\t", 1) for line in Path(f"/proc/{first}/status").read_text().splitlines())
        assert ("tini", "10001\t10001\t10001\t10001") == (state["Name"], state["Uid"])
        assert first != started.pid
        _, *probe = image.config["Healthcheck"]["Test"]
        assert "SERVING" == image.run(*probe, environment=(f"DRAGOMAN_SERVER={address}",))
        translation = image.run("dragoman", "translate", "--server", address, SENTENCE)
        assert "file" in translation.lower()
        os.kill(first, signal.SIGTERM)
        _, log = started.communicate(timeout=30)
    messages = [json.loads(line)["message"] for line in log.splitlines() if line.startswith("{")]
    assert messages.pop(0).startswith("ko-en runs on cpu: ")  # and why not on a GPU
    assert ["ready", "request", "draining"] == messages
    assert 0 == started.returncode
    assert "elemetry" not in log


def test_what_is_not_in_it(image: Image) -> None:
    """No torch, no compiler, no pip; nothing of the tests or the checkpoint."""
    packages = {path.name for path in image.root.glob("opt/dragoman/lib/python3*/site-packages/*")}
    assert {"service", "dragoman", "onnxruntime"} <= packages
    assert set() == packages & {"torch", "onnx", "transformers", "pip", "setuptools", "export", "tests"}
    programs = {path.name for folder in ("usr/bin", "opt/dragoman/bin") for path in image.root.glob(f"{folder}/*")}
    assert set() == programs & {"gcc", "cc", "g++", "c++", "clang", "make", "pip", "pip3", "dragoman-export"}


def test_what_its_user_can_write(image: Image) -> None:
    """Without the read-only root too, only the places that all may write."""
    user, group = map(int, image.config["User"].split(":"))
    found = []
    for folder, names, files in os.walk(image.root):
        for path in (Path(folder) / name for name in [*names, *files]):
            status = path.lstat()
            owned = status.st_uid == user or status.st_gid == group
            if owned or (status.st_mode & 0o002 and not path.is_symlink()):
                found.append("/" + path.relative_to(image.root).as_posix())
    everybodys = {"/tmp", "/var/tmp", "/run/lock"}  # noqa: S108  names, not places to write to
    assert everybodys >= {path for path in found if not path.startswith(("/dev/", "/proc/"))}


def test_what_it_says_of_itself(image: Image) -> None:
    """Labels, ports, the probe and the signal that stops it."""
    labels = image.config["Labels"]
    wanted = ("title", "description", "licenses", "version", "revision")
    assert [] == [name for name in wanted if not labels.get(f"org.opencontainers.image.{name}")]
    assert {"50051/tcp", "9464/tcp"} == set(image.config["ExposedPorts"])
    assert ["CMD", "dragoman", "health"] == image.config["Healthcheck"]["Test"]
    assert "SIGTERM" == image.config["StopSignal"]


def test_its_size(image: Image) -> None:
    """What every node downloads stays small; the largest parts are printed."""
    sizes = Path(__file__).parents[2] / "deploy/image/sizes"
    printed = subprocess.run([sizes, IMAGE], check=True, text=True, capture_output=True).stdout  # noqa: S603
    print(printed)  # noqa: T201
    assert int(printed.splitlines()[0].split(": ")[1].removesuffix("MB")) <= MAX_MEGABYTES
