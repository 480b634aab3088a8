"""The compose file, read by an implementation of the Compose specification, and what it names."""

from pathlib import Path
from typing import Any

import pytest
from compose_spec import PyCompose

DEPLOY = Path(__file__).parents[2] / "deploy"


def parse(text: str) -> dict[str, Any]:
    """Return the file as the specification has it; raises ValueError."""
    found: dict[str, Any] = PyCompose.from_yaml(text).to_dict()
    return found


def test_it_is_valid() -> None:
    """As `docker compose config` would find: every service, and volumes and services that others name."""
    compose = parse((DEPLOY / "compose.yaml").read_text())
    services = compose["services"]
    assert {"dragoman", "prometheus", "grafana"} == services.keys()
    needed = {name for service in services.values() for name in service.get("depends_on", [])}
    assert set() == needed - services.keys()


def test_nothing_is_left_to_fill_in() -> None:
    """No ${VARIABLE} stands in it, so it means the same whatever the environment; a lone dollar would be an error."""
    assert "$" not in (DEPLOY / "compose.yaml").read_text()


def test_the_files_that_it_mounts_are_there() -> None:
    """A path that is not there would become an empty folder, silently."""
    services = parse((DEPLOY / "compose.yaml").read_text())["services"]
    mounts = [mount for service in services.values() for mount in service.get("volumes", [])]
    sources = [mount["source"] if isinstance(mount, dict) else mount.split(":")[0] for mount in mounts]
    paths = [source for source in sources if source.startswith(".")]
    assert paths
    assert [] == [path for path in paths if not (DEPLOY / path).exists()]
    assert (DEPLOY / ".." / "Dockerfile").is_file()


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("restart: unless-stopped", "restart: sometimes"), ("ports: [", "port: ["), ("image:", "imag:")],
)
def test_mistakes_are_found(right: str, wrong: str) -> None:
    """The check can fail."""
    text = (DEPLOY / "compose.yaml").read_text()
    with pytest.raises(ValueError, match=r"."):
        parse(text.replace(right, wrong, 1))
