"""The client commands against a server."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import cli
from tests.fakes import manifest
from tests.serving import LiveServer, loaded, reversing


@pytest.fixture(scope="module")
def live() -> Iterator[LiveServer]:
    """Serve the reversing model."""
    with LiveServer([loaded(reversing())], max_texts_per_request=64) as server:
        yield server


def run(live: LiveServer, command: str, *arguments: str) -> int:
    """Run a client command against the server; return its status."""
    return cli.main([command, "--server", live.ready.address, *arguments])


def test_translate_prints_a_line_per_text(live: LiveServer, capsys: pytest.CaptureFixture[str]) -> None:
    """In their order, and nothing else."""
    assert 0 == run(live, "translate", "abc", "de")
    assert "cba\ned\n" == capsys.readouterr().out


def test_translate_reads_lines(
    live: LiveServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than fit into a request; blank ones stay blank, so that line i belongs to line i."""
    lines = ["abc", "", "de", *["fg"] * 100]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    assert 0 == run(live, "translate")
    assert [line[::-1] for line in lines] == capsys.readouterr().out.splitlines()


def test_lines_that_cannot_be_translated(
    live: LiveServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Are named on standard error and stay empty; the others are translated, and the status is 1."""
    monkeypatch.setattr("sys.stdin", io.StringIO("abc\n\u200b\nde\n\n"))
    assert 1 == run(live, "translate")
    out, complaint = capsys.readouterr()
    assert "cba\n\ned\n\n" == out
    assert ["dragoman: line 2: text: holds nothing that can be translated; leave it out"] == complaint.splitlines()


@pytest.mark.parametrize(
    ("stdin", "arguments", "says"),
    [
        (io.StringIO("abc\n" * 1000), ["--model", "other"], "[MODEL_NOT_FOUND]"),
        (io.TextIOWrapper(io.BytesIO(b"abc\n\xff\xfe\n"), "utf-8"), [], "not valid UTF-8"),
    ],
)
def test_what_no_line_can_help_ends_a_file(
    live: LiveServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    stdin: io.TextIOBase,
    arguments: list[str],
    says: str,
) -> None:  # fmt: skip
    """One complaint instead of one for every line."""
    monkeypatch.setattr("sys.stdin", stdin)
    assert 1 == run(live, "translate", *arguments)
    complaint = capsys.readouterr().err
    assert 1 == len(complaint.splitlines())
    assert says in complaint


class Terminal(io.StringIO):
    """Standard error that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def test_progress_is_shown_on_a_terminal_alone(
    live: LiveServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On standard error, out of the way of the translations, and gone at the end."""
    monkeypatch.setattr("service.terminal.PROGRESS_SECONDS", 0.0)
    for screen in (Terminal(), io.StringIO()):
        monkeypatch.setattr("sys.stderr", screen)
        monkeypatch.setattr("sys.stdin", io.StringIO("abc\n" * 30))
        assert 0 == run(live, "translate")
        assert "cba\n" * 30 == capsys.readouterr().out
        assert screen.isatty() == ("15 of 30 lines" in screen.getvalue())
        assert screen.isatty() == screen.getvalue().endswith("\r\x1b[K")


def test_a_stream_grows(live: LiveServer, capsys: pytest.CaptureFixture[str]) -> None:
    """What it prints in the end is the translation."""
    assert 0 == run(live, "translate", "--stream", "abc. de", "", "fg")
    assert ".cba ed\n\ngf\n" == capsys.readouterr().out


def test_alignments_are_pairs_of_words(live: LiveServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Each target word, and the source words that it came from."""
    assert 0 == run(live, "translate", "--alignments", "ab cde")
    assert ["edc ba", "", "edc <- cde", " ba <- ab", ""] == capsys.readouterr().out.splitlines()


def test_several_hypotheses_have_scores(live: LiveServer, capsys: pytest.CaptureFixture[str]) -> None:
    """The better one first."""
    assert 0 == run(live, "translate", "--sample", "--num-hypotheses", "2", "--seed", "7", "ab")
    first, second = capsys.readouterr().out.splitlines()
    assert ["-1.5000", "ba"] == first.split() == second.split()


def test_a_prefix_and_whole_texts(live: LiveServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Begin as they must, and are not split."""
    assert 0 == run(live, "translate", "--prefix", "x", "ab")
    assert 0 == run(live, "translate", "--whole", "ab. c")
    assert "xa\nc .ba\n" == capsys.readouterr().out


def test_attention_is_a_picture(live: LiveServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows are target tokens, columns source tokens; each token of this model comes from one source token."""
    assert 0 == run(live, "translate", "--attention", "ab")
    assert [
        "ba",
        "",
        "    ·a   ·b",
        "·b       ██99",
        "·a  ██99",
        "",
        "ba <- ab (1.00)",
        "",
    ] == capsys.readouterr().out.splitlines()


def test_json_has_everything(live: LiveServer, capsys: pytest.CaptureFixture[str]) -> None:
    """One object a line."""
    assert 0 == run(live, "translate", "--json", "ab")
    said = json.loads(capsys.readouterr().out)
    assert "ab" == said["source"]
    assert "ba" == said["hypotheses"][0]["text"]


def test_models_of_a_server(live: LiveServer, capsys: pytest.CaptureFixture[str]) -> None:
    """A table with a line per model."""
    assert 0 == run(live, "models")
    header, line = capsys.readouterr().out.splitlines()
    assert header.startswith("MODEL")
    assert ["toy", "1", "ko", ">", "en", "reversing", "fp32", "cpu", "1/1", "-"] == line.split()


def test_models_of_a_repository(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same table without a server; which provider will run them is not known yet."""
    folder = tmp_path / "toy" / "3"
    folder.mkdir(parents=True)
    (folder / "bundle.json").write_text(manifest().to_json())
    assert 0 == cli.main(["models", "--model-repository", str(tmp_path)])
    assert ["toy", "3", "ko", ">", "en", "reversing", "fp32", "-", "1/1", "-"] == (
        capsys.readouterr().out.splitlines()[1].split()
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model", "other", "abc"], "this server holds toy@1 [MODEL_NOT_FOUND, request "),
        (["--target", "xx", "abc"], "use en [INVALID_REQUEST, request "),
        (["--beam-size", "0", "abc"], "options.beam_size: must be from 1"),
        (["\udcff"], "not valid UTF-8"),
    ],
)
def test_what_the_server_refuses(
    live: LiveServer, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    """One line on standard error, with the reason and the request id; status 1."""
    assert 1 == run(live, "translate", *arguments)
    out, complaint = capsys.readouterr()
    assert "" == out
    assert 1 == len(complaint.splitlines())
    assert says in complaint


def test_no_server(capsys: pytest.CaptureFixture[str]) -> None:
    """The line says how to start one."""
    for command in (["translate", "abc"], ["models"]):
        assert 1 == cli.main([*command, "--server", "127.0.0.1:1"])
        assert "no server answers at 127.0.0.1:1; start one with `dragoman serve`" in capsys.readouterr().err


def test_no_answer_in_time(live: LiveServer, capsys: pytest.CaptureFixture[str]) -> None:
    """The line names the flag that allows more time, whether the server or the client was the first to see it."""
    assert 1 == run(live, "translate", "--timeout", "0", "abc")
    assert "--timeout" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The name and the version."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert 0 == ended.value.code
    assert capsys.readouterr().out.startswith("dragoman ")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--port", "seventy"], "--port: "),
        (["--port", "70000"], "--port: "),
        (["--max-rows", "0"], "--max-rows: "),
        (["--drain-seconds", "-1"], "--drain-seconds: "),
        (["--drain-seconds", "nan"], "--drain-seconds: "),
        (["--provider", "abacus"], "--provider: "),
    ],
)
def test_a_wrong_setting(capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    """Status 2, and one line that names the flag."""
    assert 2 == cli.main(["serve", *arguments])
    complaint = capsys.readouterr().err
    assert 1 == len(complaint.splitlines())
    assert says in complaint


@pytest.mark.parametrize("arguments", [["serve", "--no-such-flag"], ["no-such-command"], []])
def test_a_wrong_command_line(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    """Status 2, and one line that says where the help is."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert 2 == ended.value.code
    complaint = capsys.readouterr().err
    assert 1 == len(complaint.splitlines())
    assert "--help" in complaint
