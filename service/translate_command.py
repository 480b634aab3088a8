"""`dragoman translate`: texts, or the lines of standard input, in their order."""

import argparse
import shutil
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TextIO

from service import config, terminal

if TYPE_CHECKING:
    from service.rpc.client import Choice, Client, Translated


def declare(commands: Any) -> argparse.ArgumentParser:  # noqa: ANN401  argparse keeps the name of its type to itself
    """Add the command and its arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "translate", help="translate texts, or the lines of standard input"
    )
    parser.add_argument("texts", nargs="*", metavar="TEXT")
    parser.add_argument("--source", default="", metavar="CODE", help="language of the texts, such as ko")
    parser.add_argument("--target", default="", metavar="CODE", help="language to translate into, such as en")
    parser.add_argument("--model", default="", help="such as ko-en or ko-en@1")
    parser.add_argument("--prefix", default="", metavar="TEXT", help="what each translation must begin with")
    parser.add_argument("--whole", action="store_true", help="do not split texts into sentences")
    search = parser.add_argument_group("search")
    search.add_argument("--beam-size", type=int, metavar="N", help="rows of the beam; 1 is greedy")
    search.add_argument("--num-hypotheses", type=int, metavar="N", help="translations to show, each with its score")
    search.add_argument("--length-penalty", type=float, metavar="A", help="0: none; more prefers longer translations")
    search.add_argument("--sample", action="store_true", help="draw tokens at random instead of taking the best")
    search.add_argument("--temperature", type=float, metavar="T", help="of --sample; below 1 keeps to what is likely")
    search.add_argument("--top-k", type=int, metavar="K", help="of --sample: from the K most probable tokens alone")
    search.add_argument("--top-p", type=float, metavar="P", help="of --sample: of these, what reaches probability P")
    search.add_argument("--seed", type=int, default=0, metavar="N", help="of --sample; the same seed, the same text")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--stream", action="store_true", help="show each translation while it grows")
    shape.add_argument("--attention", action="store_true", help="show which source token each target token attended to")
    shape.add_argument("--alignments", action="store_true", help="show which source words each target word came from")
    shape.add_argument("--json", action="store_true", help="print all that the server says, one line per text")
    return parser


def run(given: argparse.Namespace) -> int:
    """Translate; return the exit status."""
    from service.rpc import client  # noqa: PLC0415
    from service.rpc.channel import Connection  # noqa: PLC0415

    sampled = given.sample or any(value is not None for value in (given.temperature, given.top_k, given.top_p))
    draw = client.Draw(given.temperature, given.top_k, given.top_p, given.seed) if sampled else None
    choice = client.Choice(
        model=given.model,
        source=given.source,
        target=given.target,
        beam_size=given.beam_size,
        num_hypotheses=given.num_hypotheses,
        length_penalty=given.length_penalty,
        draw=draw,
        prefix=given.prefix,
        whole=given.whole,
        attention=given.attention,
        alignments=given.alignments,
    )
    try:
        with client.Client(Connection.from_arguments(given), given.timeout) as connection:
            if given.stream:
                return _stream(connection, given.texts or _lines(sys.stdin), choice)
            if given.texts:
                return _texts(connection, given.texts, choice, as_json=given.json)
            return _file(connection, choice, as_json=given.json)
    except client.ClientError as error:
        return _complain(str(error))
    except UnicodeError:
        return _complain("the text is not valid UTF-8; convert it, as with iconv")


def _complain(message: str) -> int:
    print(f"dragoman: {message}", file=sys.stderr)
    return 1


def _stream(connection: "Client", texts: Iterable[str], choice: "Choice") -> int:
    for text in texts:
        if text.strip():
            for delta in connection.stream(text, choice):
                print(delta, end="", flush=True)
        print(flush=True)
    return 0


def _texts(connection: "Client", texts: list[str], choice: "Choice", *, as_json: bool) -> int:
    wanted = [text for text in texts if text.strip()]
    found = iter(connection.translate(wanted, choice) if wanted else ())
    for text in texts:
        _show(next(found) if text.strip() else None, as_json=as_json)
    return 0


def _file(connection: "Client", choice: "Choice", *, as_json: bool) -> int:
    """Translate line by line; an answer stays with its line, a line that cannot be translated stays empty."""
    status = 0
    with terminal.Progress(sys.stderr, _count(sys.stdin) if sys.stderr.isatty() else None) as progress:
        for number, found in enumerate(connection.segments(_lines(sys.stdin), choice), 1):
            progress.clear()
            if isinstance(found, str):
                status = _complain(f"line {number}: {found}")
            _show(None if isinstance(found, str) else found, as_json=as_json)
            progress.show(number)
    return status


def _lines(stream: TextIO) -> Iterator[str]:
    if stream.isatty():
        print("Type a line, get its translation; Ctrl-D ends.", file=sys.stderr)
    for line in stream:
        yield line.rstrip("\n")


def _count(stream: TextIO) -> int | None:
    """Count the lines to come, where they can be read twice."""
    if not stream.seekable():
        return None
    here = stream.tell()
    count = sum(1 for _ in stream)
    stream.seek(here)
    return count


def _show(found: "Translated | None", *, as_json: bool) -> None:
    """Print one translation; an empty line for one that was not asked for, so that lines stay in step."""
    if found is None:
        print(flush=True)
    elif as_json:
        print(found.json, flush=True)
    elif len(found.hypotheses) > 1:
        print(*(f"{score:9.4f}  {text}" for score, text in found.hypotheses), sep="\n", flush=True)
    else:
        print(found.hypotheses[0][1], flush=True)
    if found is not None and found.picture is not None:
        colour = sys.stdout.isatty() and config.colour_wanted()
        print("", found.picture.draw(shutil.get_terminal_size().columns, colour=colour), "", sep="\n")
        print(*found.picture.alignments(), "", sep="\n", flush=True)
    elif found is not None and found.alignments:
        print("", *found.alignments, "", sep="\n", flush=True)
