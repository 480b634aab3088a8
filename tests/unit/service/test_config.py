"""Settings from flags, the environment and defaults."""

import dataclasses
from pathlib import Path

import pytest

from service.config import (
    DEFAULT_SERVER,
    EMBEDDED,
    SettingError,
    Settings,
    client_server,
    colour_wanted,
    options,
    processors,
    read_settings,
)


def test_defaults() -> None:
    """Without flags and environment, the embedded model is served on this machine alone."""
    settings = read_settings({}, {})
    assert Settings() == settings
    assert EMBEDDED == settings.model_repository
    assert DEFAULT_SERVER == f"{settings.host}:{settings.port}"


def test_flags_go_before_the_environment() -> None:
    """A flag wins over its variable, a variable over the default, and each is read as its type."""
    environment = {"DRAGOMAN_PORT": "1", "DRAGOMAN_METRICS_PORT": "2", "DRAGOMAN_MODEL_REPOSITORY": "/models"}
    settings = read_settings({"port": "3", "metrics_port": None}, environment)
    assert (3, 2, Path("/models")) == (settings.port, settings.metrics_port, settings.model_repository)


@pytest.mark.parametrize(
    ("flags", "environment", "source"),
    [
        ({"port": "x"}, {}, "--port"),
        ({}, {"DRAGOMAN_PORT": "65536"}, "DRAGOMAN_PORT"),
        ({"log_format": "xml"}, {}, "--log-format"),
        ({"host": ""}, {}, "--host"),
        ({"devices": "0,"}, {}, "--devices"),
    ],
)
def test_a_wrong_value_names_its_source(flags: dict[str, str], environment: dict[str, str], source: str) -> None:
    """The message starts with the flag or the variable."""
    with pytest.raises(SettingError, match=f"^{source}: .*; got '"):
        read_settings(flags, environment)


def test_every_setting_explains_itself() -> None:
    """Each field has a flag, a variable and a sentence."""
    assert [field.name for field in dataclasses.fields(Settings)] == [option.name for option in options()]
    assert all(option.variable in option.help and "default" in option.help for option in options())


def test_processors_respect_the_cgroup(tmp_path: Path) -> None:
    """A quota of one and a half processors is two at most, less than one is one, and none is no bound."""
    unbounded = processors(tmp_path / "missing")
    quota = tmp_path / "cpu.max"
    for text, bound in (("150000 100000", 2), ("50000 100000", 1), ("max 100000", unbounded), ("nonsense", unbounded)):
        quota.write_text(text)
        assert min(unbounded, bound) == processors(quota)


def test_threads_leave_a_processor_to_the_event_loop() -> None:
    """By default; what is asked for is taken."""
    assert max(1, processors() - 1) == Settings().run_threads
    assert 5 == Settings(threads=5).run_threads


def test_capacity_is_what_may_wait_and_run() -> None:
    """Both bounds together."""
    assert 11 == Settings(max_waiting=8, max_rows=3).capacity


def test_clients_read_the_environment_here() -> None:
    """The server to talk to, and whether to paint."""
    assert ("a:1", DEFAULT_SERVER) == (client_server({"DRAGOMAN_SERVER": "a:1"}), client_server({}))
    assert (True, False, False) == (
        colour_wanted({"TERM": "xterm"}), colour_wanted({"NO_COLOR": "1"}), colour_wanted({"TERM": "dumb"})
    )  # fmt: skip


def test_devices_are_numbers() -> None:
    """One by default; several with commas."""
    assert (0,) == Settings().device_numbers
    assert (1, 0) == read_settings({"devices": "1,0"}, {}).device_numbers
