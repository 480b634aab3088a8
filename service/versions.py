"""Which versions of which models a server is to hold: what its settings say, and what was asked of it since."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from service.bundle import FILE_NAME
from service.config import SettingError
from service.errors import StartupError
from service.repository import Found

EVERY = "*"


@dataclass(frozen=True, slots=True)
class Pin:
    """A model, and its version: a certain one, every one (`*`), or, where it is empty, the latest."""

    name: str
    version: str = ""

    @classmethod
    def parse(cls, text: str) -> "Pin":
        """Read `NAME`, `NAME@VERSION` or `NAME@*`; raise ValueError."""
        name, at, version = text.strip().partition("@")
        if not FILE_NAME.fullmatch(name) or (at and version != EVERY and not FILE_NAME.fullmatch(version)):
            raise ValueError(f"{text!r} names no model; write NAME, NAME@VERSION or NAME@{EVERY}")
        return cls(name, version)

    def __str__(self) -> str:
        """Write it as it is read."""
        return f"{self.name}@{self.version}" if self.version else self.name

    def covers(self, name: str, version: str) -> bool:
        """Whether this version of this model is meant, or may be: which is the latest one is not known here."""
        return self.name == name and self.version in ("", EVERY, version)


def parse_pins(text: str) -> tuple[Pin, ...]:
    """Read pins with commas between; none: the latest version of every model. Raise ValueError."""
    return tuple(Pin.parse(part) for part in text.split(",")) if text.strip() else ()


class Versions:
    """What a server is to hold of a repository."""

    def __init__(self, pins: Sequence[Pin]) -> None:
        self._pins = tuple(pins)
        self._asked: dict[Pin, None] = {}
        self._dismissed: set[Pin] = set()

    @classmethod
    def from_setting(cls, text: str) -> "Versions":
        """Read the setting `models`; raises SettingError."""
        try:
            return cls(parse_pins(text))
        except ValueError as error:
            raise SettingError(f"--models: {error}") from error

    def default(self, name: str) -> str | None:
        """Return the version for requests that name none: of the first pin for this model; None: the newest held."""
        first = next((pin.version for pin in self._pins if pin.name == name), "")
        return first if first not in ("", EVERY) else None

    def ask(self, pin: Pin) -> None:
        """Hold this beside what the settings say, whether it was dismissed before or not."""
        self._dismissed = {other for other in self._dismissed if not pin.covers(other.name, other.version)}
        self._asked[pin] = None

    def dismiss(self, pin: Pin) -> None:
        """Do not hold this any more, one version or the whole model, until it is asked for."""
        self._asked = {other: None for other in self._asked if not _meets(other, pin)}
        self._dismissed.add(pin)

    def wanted(self, found: Sequence[Found]) -> list[Found]:
        """Return what to hold of what a repository has, in its order."""
        by_settings = self._pins or tuple(Pin(name) for name in dict.fromkeys(one.name for one in found))
        return [
            one
            for one in found
            if _chosen(self._asked, one, found) or (_chosen(by_settings, one, found) and not self._gone(one))
        ]

    def required(self, found: Sequence[Found]) -> list[Found]:
        """Return what is wanted; raise StartupError where a repository lacks some of it."""
        if missing := self.missing(found):
            held = ", ".join(one.spelled for one in found)
            raise StartupError(f"--models wants {missing[0]}, which the repository lacks; it holds {held}")
        return self.wanted(found)

    def missing(self, found: Sequence[Found]) -> list[Pin]:
        """Return the pins that a repository has nothing for."""
        return [pin for pin in (*self._pins, *self._asked) if not any(pin.covers(f.name, f.version) for f in found)]

    def _gone(self, one: Found) -> bool:
        return not self._dismissed.isdisjoint((Pin(one.name), Pin(one.name, one.version)))


def _chosen(pins: Iterable[Pin], one: Found, found: Sequence[Found]) -> bool:
    """Whether one of the pins means this bundle; the latest is the last of its name, as a repository is sorted."""
    latest = [other for other in found if other.name == one.name][-1]
    return any(pin.covers(one.name, one.version) and (pin.version or one == latest) for pin in pins)


def _meets(asked: Pin, dismissed: Pin) -> bool:
    """Whether what was asked for may be what is dismissed: a version of the model, or the model as a whole."""
    return asked.name == dismissed.name and (not dismissed.version or asked.covers(asked.name, dismissed.version))
