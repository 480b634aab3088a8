"""`dragoman`: serve, translate, models, load. Modules that a command alone needs are imported by that command."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from service import config, models_command, translate_command
from service.errors import StartupError
from service.load import options as load_options

USAGE_ERROR = 2


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(USAGE_ERROR, f"{self.prog}: {message}; see {self.prog} --help\n")


class Version(argparse.Action):
    """Prints the version, which is looked up only now."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        """Print and exit."""
        from service.metrics import version  # noqa: PLC0415

        print(f"dragoman {version()}")
        parser.exit(0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    given = _parser().parse_args(arguments)
    try:
        status: int = given.run(given)
    except config.SettingError as error:
        return _complain(error, USAGE_ERROR)
    except StartupError as error:
        return _complain(error, 1)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter fails to flush at exit
        return 1
    return status


def _parser() -> Parser:
    parser = Parser(prog="dragoman", description="Serves encoder-decoder attention models over gRPC.")
    parser.add_argument("--version", action=Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)

    serve = commands.add_parser("serve", help="serve the models of a repository")
    for option in config.options():
        serve.add_argument(option.flag, dest=option.name, metavar="VALUE", help=option.help.replace("%", "%%"))
    serve.add_argument("--config", metavar="FILE", help=f"YAML file of these settings by name [{config.CONFIG}]")
    serve.add_argument("--check", action="store_true", help="check the settings and all files that they name, and exit")
    serve.set_defaults(run=_serve)

    health = commands.add_parser("health", help="ask a server whether it serves; exit with 0 if so, with 1 if not")
    health.add_argument("--server", default=config.health_server(), metavar="HOST:PORT", help="default: as serve does")
    health.add_argument("--service", default="", help="one service instead of the whole server")
    health.add_argument("--timeout", type=float, default=3.0, metavar="SECONDS", help="for the call")
    health.set_defaults(run=_health)

    translate = translate_command.declare(commands)
    translate.set_defaults(run=translate_command.run)

    models = models_command.declare(commands)
    models.set_defaults(run=models_command.run)

    load = load_options.declare(commands)
    load.set_defaults(run=_load)
    for client in (translate, models, load):
        client.add_argument("--server", default=config.client_server(), metavar="HOST:PORT", help="[DRAGOMAN_SERVER]")
        client.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="for one call")
    for client in (health, translate, models, load):
        client.add_argument(
            "--tls-authority", type=Path, metavar="FILE", help="who signed the server's certificate: TLS"
        )
        client.add_argument("--tls-certificate", type=Path, metavar="FILE", help="the certificate to show")
        client.add_argument("--tls-key", type=Path, metavar="FILE", help="its key")
        client.add_argument("--token-file", type=Path, metavar="FILE", help="a file with the token to show")
    return parser


def _complain(error: Exception, status: int) -> int:
    print(f"dragoman: {error}", file=sys.stderr)
    return status


def _serve(given: argparse.Namespace) -> int:
    settings = config.read_settings(vars(given))
    config.forbid_telemetry()
    config.silence_core()
    from service import link  # noqa: PLC0415

    program = sys.argv[0] if Path(sys.argv[0]).name == "dragoman" else "dragoman"

    def announce(ready: link.Ready) -> None:
        where = "" if ready.address == config.DEFAULT_SERVER else f"--server {ready.address} "
        print(f"Serving {', '.join(ready.models)} on {ready.address}, metrics on {ready.metrics_url}")
        print(f'Try: {program} translate {where}"파일을 열 수 없습니다"', flush=True)

    if settings.workers > 1 and not given.check:
        from service import workers  # noqa: PLC0415  nothing else: the parent holds no models

        return workers.run(settings, announce)
    from service import process  # noqa: PLC0415

    if given.check:
        print(*process.check(settings), sep="\n")
        return 0
    return process.run(settings, announce)


def _health(given: argparse.Namespace) -> int:
    from service.rpc.channel import Connection  # noqa: PLC0415
    from service.rpc.probe import probe  # noqa: PLC0415

    found = probe(Connection.from_arguments(given), given.service, given.timeout)
    print(found)
    return 0 if found == "SERVING" else 1


def _load(given: argparse.Namespace) -> int:
    try:
        from service.load import command  # noqa: PLC0415
    except ImportError as error:
        return _complain(ValueError(f"loading needs more ({error}): pip install 'dragoman[load]'"), 1)
    from service.load.plan import PlanError  # noqa: PLC0415
    from service.rpc.client import ClientError  # noqa: PLC0415

    try:
        return command.run(given)
    except PlanError as error:
        return _complain(error, USAGE_ERROR)
    except ClientError as error:
        return _complain(error, 1)


if __name__ == "__main__":
    sys.exit(main())
