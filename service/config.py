"""Settings: from flags, then the environment, then defaults. The only module that reads the environment."""

import dataclasses
import math
import os
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from service.errors import StartupError

EMBEDDED = Path(__file__).parent / "bundles"
PREFIX = "DRAGOMAN_"
DEFAULT_SERVER = "127.0.0.1:50051"
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


class SettingError(StartupError):
    """A setting that cannot be used; the message names its flag or variable."""


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """How to serve. A field's description is its --help text; its variable is DRAGOMAN_ and its name in capitals."""

    model_repository: Annotated[Path, Meta(description="folder of bundles, <model>/<version>/")] = EMBEDDED
    host: Annotated[str, Meta(min_length=1, description="address to listen on, for gRPC and metrics")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="port of the gRPC server; 0: any free one")] = 50051
    metrics_port: Annotated[int, Meta(ge=0, le=65535, description="port of /metrics over HTTP; 0: any free one")] = 9464
    provider: Annotated[
        Literal["auto", "cpu", "cuda", "tensorrt"], Meta(description="where the graphs run: auto, cpu, cuda, tensorrt")
    ] = "auto"
    threads: Annotated[
        int, Meta(ge=0, le=1024, description="threads of one graph run; 0: one less than the processors, at least one")
    ] = 0
    max_rows: Annotated[int, Meta(ge=1, le=4096, description="rows of the decoder batch")] = 64
    max_waiting: Annotated[int, Meta(ge=1, description="texts that may wait for a row before new ones are refused")] = (
        1024
    )
    max_texts_per_request: Annotated[int, Meta(ge=1, description="texts in one request")] = 128
    max_text_bytes: Annotated[int, Meta(ge=1, le=1 << 20, description="UTF-8 bytes in one text")] = 8192
    drain_seconds: Annotated[
        float, Meta(ge=0, description="time that running requests get to finish after SIGTERM, in seconds")
    ] = 30.0
    log_format: Annotated[
        Literal["auto", "json", "text"], Meta(description="json, text, or auto: text on a terminal, JSON otherwise")
    ] = "auto"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="debug, info, warning or error")
    ] = "info"

    @property
    def run_threads(self) -> int:
        """Threads of one graph run; by itself it leaves one processor to the event loop."""
        return self.threads or max(1, processors() - 1)

    @property
    def capacity(self) -> int:
        """Texts that may be in the server at once, waiting or running."""
        return self.max_waiting + self.max_rows


@dataclasses.dataclass(frozen=True, slots=True)
class Option:
    """A setting as the command line shows it."""

    name: str
    flag: str
    variable: str
    help: str


def options() -> list[Option]:
    """Describe every setting, in order."""
    described = []
    for field in dataclasses.fields(Settings):
        meta = typing.get_args(_hints()[field.name])[1]
        variable = PREFIX + field.name.upper()
        default = "the embedded model" if field.default == EMBEDDED else field.default
        text = f"{meta.description} (default: {default}) [{variable}]"
        described.append(Option(field.name, "--" + field.name.replace("_", "-"), variable, text))
    return described


def read_settings(flags: Mapping[str, str | None], environment: Mapping[str, str] = os.environ) -> Settings:
    """Build the settings; `flags` holds the given ones by field name. Raises SettingError."""
    values = {}
    for option in options():
        given = flags.get(option.name)
        text = environment.get(option.variable) if given is None else given
        if text is not None:
            source = option.variable if given is None else option.flag
            values[option.name] = _convert(source, text, _hints()[option.name])
    return Settings(**values)


def client_server(environment: Mapping[str, str] = os.environ) -> str:
    """Return the server that the client commands talk to by default."""
    return environment.get(PREFIX + "SERVER", DEFAULT_SERVER)


def colour_wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether a terminal may be painted: not with NO_COLOR (https://no-color.org), nor on a dumb one."""
    return not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


def processors(quota: Path = CPU_QUOTA) -> int:
    """Count the processors that this process may use: its affinity, bounded by the cgroup's quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        limit, period = quota.read_text().split()
        return count if limit == "max" else max(1, min(count, math.ceil(int(limit) / int(period))))
    except (OSError, ValueError):
        return count


def _hints() -> dict[str, Any]:
    return typing.get_type_hints(Settings, include_extras=True)


def _convert(source: str, text: str, hint: object) -> Any:  # noqa: ANN401  the hint says what it is, at run time
    try:
        return msgspec.convert(text, hint, strict=False, dec_hook=lambda kind, value: kind(value))
    except msgspec.ValidationError as error:
        raise SettingError(f"{source}: {error}; got {text!r}") from error
