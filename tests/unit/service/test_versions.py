"""Which versions of which models are wanted."""

from pathlib import Path

import pytest

from service.errors import StartupError
from service.repository import Found
from service.versions import Pin, Versions, parse_pins

FOUND = [
    Found(name, version, Path(name, version)) for name, version in (("de-ko", "1"), ("ko-en", "2"), ("ko-en", "10"))
]


def wanted(versions: Versions) -> list[str]:
    """Return what is wanted of the repository above."""
    return [one.spelled for one in versions.wanted(FOUND)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["de-ko@1", "ko-en@10"]),
        ("ko-en", ["ko-en@10"]),
        ("ko-en@2", ["ko-en@2"]),
        ("ko-en@2, ko-en", ["ko-en@2", "ko-en@10"]),
        ("de-ko,ko-en@*", ["de-ko@1", "ko-en@2", "ko-en@10"]),
        ("ko-en@3", []),
    ],
)
def test_the_setting(text: str, expected: list[str]) -> None:
    """The latest of each model, or what is named: latest, one version, or every one."""
    assert expected == wanted(Versions(parse_pins(text)))


def test_the_first_version_named_is_the_default() -> None:
    """Requests without a version mean the newest, unless the setting names a certain one first."""
    assert "2" == Versions(parse_pins("ko-en@2,ko-en")).default("ko-en")
    assert None is Versions(parse_pins("ko-en,ko-en@2")).default("ko-en")
    assert None is Versions(parse_pins("ko-en@*")).default("ko-en")


def test_what_is_missing() -> None:
    """Pins that nothing in the repository answers to."""
    versions = Versions(parse_pins("ko-en@3,fr-en,ko-en"))
    assert ["ko-en@3", "fr-en"] == [str(pin) for pin in versions.missing(FOUND)]
    with pytest.raises(StartupError, match="wants ko-en@3, which the repository lacks; it holds de-ko@1, ko-en@2"):
        versions.required(FOUND)


def test_what_was_asked_for_comes_beside_the_setting() -> None:
    """And goes when it is dismissed, the setting's own staying."""
    versions = Versions(())
    versions.ask(Pin("ko-en", "2"))
    assert ["de-ko@1", "ko-en@2", "ko-en@10"] == wanted(versions)
    versions.dismiss(Pin("ko-en", "2"))
    assert ["de-ko@1", "ko-en@10"] == wanted(versions)


def test_what_was_dismissed_stays_away_until_it_is_asked_for() -> None:
    """One version, whose place no other takes, or a whole model."""
    versions = Versions(())
    versions.dismiss(Pin("ko-en", "10"))
    assert ["de-ko@1"] == wanted(versions)
    versions.ask(Pin("ko-en"))
    assert ["de-ko@1", "ko-en@10"] == wanted(versions)
    versions.dismiss(Pin("ko-en"))
    assert ["de-ko@1"] == wanted(versions)
    versions.ask(Pin("ko-en", "2"))
    assert ["de-ko@1", "ko-en@2"] == wanted(versions)


@pytest.mark.parametrize("text", ["ko-en@", "../x", "ko-en@1,", "a@b@c"])
def test_what_names_no_model(text: str) -> None:
    """The message says how to write it."""
    with pytest.raises(ValueError, match="write NAME, NAME@VERSION or NAME@"):
        parse_pins(text)
