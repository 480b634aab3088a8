"""Settings: from flags, the environment, a YAML file, defaults, in this order. Alone in reading the environment."""

import dataclasses
import difflib
import math
import os
import typing
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from service.errors import StartupError

EMBEDDED = Path(__file__).parent / "bundles"
PREFIX = "DRAGOMAN_"
DEFAULT_SERVER = "127.0.0.1:50051"
CONFIG = PREFIX + "CONFIG"
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")

Port = Annotated[int, Meta(ge=0, le=65535)]


class SettingError(StartupError):
    """A setting that cannot be used; the message names its flag or variable."""


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """How to serve. A field's description is its --help text; its variable is DRAGOMAN_ and its name in capitals."""

    model_repository: Annotated[Path, Meta(description="folder of bundles, <model>/<version>/")] = EMBEDDED
    models: Annotated[
        str, Meta(description="what to hold, as NAME (its latest version), NAME@VERSION, NAME@*, …; empty: all NAMEs")
    ] = ""
    model_poll_seconds: Annotated[
        float, Meta(ge=0, description="look at it again for new versions after so many seconds; 0: on SIGHUP alone")
    ] = 0.0
    model_megabytes: Annotated[
        int,
        Meta(ge=0, description="memory for all models together, in 10^6 bytes; what would pass it is refused; 0: any"),
    ] = 0
    host: Annotated[str, Meta(min_length=1, description="address to listen on, for gRPC and metrics")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="port of the gRPC server; 0: any free one")] = 50051
    metrics_port: Annotated[int, Meta(ge=0, le=65535, description="port of /metrics over HTTP; 0: any free one")] = 9464
    health_port: Annotated[
        Port | None,
        Meta(description="port of a second server, in plain text, for grpc.health.v1 alone; 0: any free one"),
    ] = None
    admin_socket: Annotated[
        Path | None, Meta(description="Unix socket of ModelService, for whoever may open that file; without it, off")
    ] = None
    mode: Annotated[
        Literal["development", "production"], Meta(description="development, or production: without reflection")
    ] = "development"
    provider: Annotated[
        Literal["auto", "cpu", "cuda", "tensorrt"], Meta(description="where the graphs run: auto, cpu, cuda, tensorrt")
    ] = "auto"
    devices: Annotated[
        str,
        Meta(pattern=r"^\d{1,3}(,\d{1,3})*$", description="GPUs to run on, as in 0,1: an engine on each"),
    ] = "0"
    device_megabytes: Annotated[
        int,
        Meta(ge=0, description="memory on each GPU for what the rows of one model have, in 10^6 bytes; 0: no bound"),
    ] = 0
    tensorrt_engines: Annotated[
        Path | None, Meta(description="folder for what TensorRT builds; without it, it is built at every start")
    ] = None
    threads: Annotated[
        int, Meta(ge=0, le=1024, description="threads of one graph run; 0: one less than the processors, at least one")
    ] = 0
    workers: Annotated[
        int, Meta(ge=1, le=256, description="server processes on the CPU that share the port, each with all models")
    ] = 1
    max_rows: Annotated[int, Meta(ge=1, le=4096, description="rows of the decoder batch")] = 64
    engine_nice: Annotated[
        int, Meta(ge=0, le=19, description="nice value of engine threads: above 0, calls go before steps (Linux)")
    ] = 0
    cache_megabytes: Annotated[
        int, Meta(ge=1, le=1 << 20, description="memory for the caches of one model, in 10^6 bytes, where it has any")
    ] = 1024
    max_waiting: Annotated[int, Meta(ge=1, description="texts that may wait for a row before new ones are refused")] = (
        1024
    )
    max_texts_per_request: Annotated[int, Meta(ge=1, description="texts in one request")] = 128
    segments_in_flight: Annotated[
        int, Meta(ge=1, le=4096, description="segments of one stream that are at work at once")
    ] = 64
    max_text_bytes: Annotated[int, Meta(ge=1, le=1 << 20, description="UTF-8 bytes in one text")] = 16384
    max_message_bytes: Annotated[int, Meta(ge=1024, le=1 << 30, description="bytes of one message from a client")] = (
        4 << 20
    )
    max_streams_per_connection: Annotated[
        int, Meta(ge=1, le=1 << 20, description="calls that one connection may have open at once")
    ] = 1024
    connection_age_seconds: Annotated[
        float, Meta(ge=0, description="age at which a client is asked to connect anew, in seconds; 0: never")
    ] = 0.0
    connection_grace_seconds: Annotated[
        float, Meta(ge=0, description="time that the calls of such a connection get to finish, in seconds")
    ] = 30.0
    tls_certificate: Annotated[
        Path | None, Meta(description="PEM file of the server's certificate chain: turns TLS on; read anew on change")
    ] = None
    tls_key: Annotated[Path | None, Meta(description="PEM file of the certificate's private key")] = None
    tls_client_authority: Annotated[
        Path | None, Meta(description="PEM file of who signs the certificates that clients must show (mutual TLS)")
    ] = None
    clients: Annotated[
        Path | None,
        Meta(description="YAML file of clients with hashed tokens and quotas: others are refused; read anew on change"),
    ] = None
    health_access: Annotated[
        Literal["open", "clients"], Meta(description="who may ask for health on the gRPC port: open, or clients only")
    ] = "open"
    grace_seconds: Annotated[
        float,
        Meta(ge=0, description="time to serve on after SIGTERM while balancers see NOT_SERVING, in seconds"),
    ] = 0.0
    drain_seconds: Annotated[
        float, Meta(ge=0, description="time that running requests get to finish after SIGTERM, in seconds")
    ] = 30.0
    stall_seconds: Annotated[
        float, Meta(ge=0, description="a step that takes longer turns health to NOT_SERVING, in seconds; 0: never")
    ] = 60.0
    stall_action: Annotated[
        Literal["report", "exit"],
        Meta(description="what such a step does beside that: report, or exit: end the process"),
    ] = "report"
    log_format: Annotated[
        Literal["auto", "json", "text"], Meta(description="json, text, or auto: text on a terminal, JSON otherwise")
    ] = "auto"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="debug, info, warning or error")
    ] = "info"
    log_texts: Annotated[
        Literal["never", "always"], Meta(description="never, or always: texts and translations enter the log")
    ] = "never"
    otlp_endpoint: Annotated[
        str | None, Meta(description="where spans go by OTLP over gRPC, such as http://127.0.0.1:4317")
    ] = None
    trace_share: Annotated[
        float, Meta(ge=0, le=1, description="share of calls that are traced where the client does not say")
    ] = 0.01

    @property
    def run_threads(self) -> int:
        """Threads of one graph run; by itself it leaves one processor of its share to the event loop."""
        return self.threads or max(1, processors() // self.workers - 1)

    @property
    def device_numbers(self) -> tuple[int, ...]:
        """The devices to run on, each an engine of its own."""
        return tuple(map(int, self.devices.split(",")))

    @property
    def is_worker(self) -> bool:
        """Whether a server with these settings is one of several, under a parent that speaks for it."""
        return self.workers > 1

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
        default = "empty" if default == "" else default
        text = f"{meta.description} (default: {default}) [{variable}]"
        described.append(Option(field.name, "--" + field.name.replace("_", "-"), variable, text))
    return described


def read_settings(flags: Mapping[str, str | None], environment: Mapping[str, str] = os.environ) -> Settings:
    """Build the settings; `flags` holds the given ones by field name, `config` the file among them.

    Raises SettingError.
    """
    file = flags.get("config") or environment.get(CONFIG)
    written = read_yaml(Path(file)) if file else {}
    values = {}
    for option in options():
        sources = (
            (option.flag, flags.get(option.name)),
            (option.variable, environment.get(option.variable)),
            (f"{file}: {option.name}", written.pop(option.name, None)),
        )
        for source, value in sources:
            if value is not None:
                values[option.name] = _convert(source, value, _hints()[option.name])
                break
    if written:
        raise SettingError(_unknown(f"{file}", next(iter(written))))
    settings = Settings(**values)
    if contradiction := _contradiction(settings):
        raise SettingError(contradiction)
    return settings


def read_yaml(path: Path) -> dict[str, object]:
    """Read a YAML file that holds one mapping with names for keys; an empty one is empty. Raises SettingError."""
    try:
        return msgspec.yaml.decode(path.read_bytes(), type=dict[str, object] | None) or {}
    except OSError as error:
        raise SettingError(f"{path} cannot be read ({error.strerror}); give a file that this user may read") from error
    except msgspec.DecodeError as error:
        raise SettingError(f"{path} is no YAML mapping of names to values ({error})") from error


def client_server(environment: Mapping[str, str] = os.environ) -> str:
    """Return the server that the client commands talk to by default."""
    return environment.get(PREFIX + "SERVER", DEFAULT_SERVER)


def health_server(environment: Mapping[str, str] = os.environ) -> str:
    """Return where `dragoman health` asks by default: the server that the same environment would start here."""
    port = environment.get(PREFIX + "HEALTH_PORT") or environment.get(PREFIX + "PORT")
    return f"127.0.0.1:{port}" if port else client_server(environment)


def forbid_telemetry(environment: MutableMapping[str, str] = os.environ) -> None:
    """Keep ONNX Runtime from reporting to its maker, which it does by default; call it before that is imported."""
    environment["ORT_DISABLE_TELEMETRY"] = "1"


def silence_core(environment: MutableMapping[str, str] = os.environ) -> None:
    """Keep gRPC's core from writing to stderr by itself, addresses of clients among it; call it before it is imported.

    Whoever looks for a fault in it sets GRPC_VERBOSITY.
    """
    environment.setdefault("GRPC_VERBOSITY", "NONE")


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


def _convert(source: str, value: object, hint: object) -> Any:  # noqa: ANN401  the hint says what it is, at run time
    try:
        return msgspec.convert(value, hint, strict=False, dec_hook=lambda kind, text: kind(text))
    except msgspec.ValidationError as error:
        raise SettingError(f"{source}: {error}; got {value!r}") from error


def _unknown(file: str, name: str) -> str:
    near = difflib.get_close_matches(name, [option.name for option in options()], 1)
    return f"{file}: there is no setting {name!r}" + (f"; did you mean {near[0]}?" if near else "")


def _contradiction(settings: Settings) -> str | None:
    """Check what one setting alone cannot say."""
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        return "--tls-certificate and --tls-key belong together; give both or none"
    if settings.tls_client_authority is not None and settings.tls_certificate is None:
        return "--tls-client-authority needs --tls-certificate and --tls-key: mutual TLS is TLS first"
    if settings.is_worker and settings.provider in {"cuda", "tensorrt"}:
        return f"--workers is for the CPU, and --provider {settings.provider} is not: one engine fills a GPU"
    if settings.is_worker and settings.admin_socket is not None:
        return "--admin-socket speaks to one server, not to --workers; send SIGHUP, or use --model-poll-seconds"
    if settings.health_access == "clients" and settings.clients is None and settings.tls_client_authority is None:
        return "--health-access clients needs --clients, a file that says who they are"
    return None
