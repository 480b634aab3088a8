"""Hostile requests in rounds against a real server, with a well-behaved client beside them, and what was found."""

import collections
import dataclasses
import re
import socket
import statistics
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import grpc

from dragoman.v1 import translation_pb2 as pb
from dragoman.v1 import translation_pb2_grpc
from service.config import EMBEDDED
from service.load.scrape import Page
from tests.benchmark.serving import Server
from tests.hostile.asking import Asking
from tests.hostile.behaved import PATIENCE, Behaved
from tests.hostile.messages import CANARY
from tests.hostile.tls import Hellos
from tests.hostile.wire import Connections, Held
from tests.soak.report import Row
from tests.soak.vitals import Patient, Vitals

HELLOS = 0.02
"""Share of the hostile requests that are beginnings of TLS, to a server of their own."""
CONNECTIONS = 0.5
"""Share of the others that are connections; the rest are calls."""
HELD = 4
"""Of each kind, on each port, in each round."""
GROWN_THREADS, GROWN_DESCRIPTORS = 16, 8
"""gRPC starts more threads where the machine is slow, and ends them when they have had nothing to do for a while."""
ENOUGH = 10
"""Looks at rest from which on memory says something. The first fifth does not count: allocators fill."""
GROWN = 1.1
"""The median of the second half of the looks, by that of the first half: single ones differ by more."""
REST_SECONDS = 60.0
TIDY_SECONDS = 25.0
"""In which a server at rest gives back what a peak has left."""
LONGEST, MOST_TEXTS = "가나다 " * 49, 128
"""A text of nearly as many tokens as the embedded model takes, and as many texts as a request may have."""
OURS = ("Internal", "Unknown")
"""Codes that none of our handlers may end with, as the metrics spell them."""


@dataclasses.dataclass(slots=True)
class Found:
    """Everything that was seen."""

    endings: collections.Counter[tuple[str, str]]
    """Hostile requests by kind and by how they ended."""
    improper: list[str]
    faults: list[str]
    """What the well-behaved client had to complain of."""
    answers: int
    slowest: float
    """Of the well-behaved client's answers, in seconds."""
    rests: list[Vitals]
    """Before all, and after each round."""
    tls_rests: tuple[Vitals, Vitals]
    """Of the server with TLS, before and after."""
    handled: dict[str, int]
    """Calls of our methods by code, as the server counted them."""
    log: str = ""
    status: int | None = None


def rounds(total: int, size: int, seed: int, say: Callable[[str], None]) -> Found:
    """Make hostile requests in rounds of a size, each followed by rest, then those to a server with TLS."""
    hellos = round(HELLOS * total)
    total -= hellos
    health_port = free_port()
    options = ("--health-port", str(health_port), "--threads", "1")
    with Server(next(EMBEDDED.glob("*/*")), None, *options) as server:
        ports = {
            "calls": server.address,
            "metrics": server.metrics_url.split("/")[2],
            "probes": f"127.0.0.1:{health_port}",
        }
        patient = Patient(server.pid, server.metrics_url)
        connections = Connections(ports["calls"], ports["metrics"], ports["probes"])
        with (
            Behaved(server.address, server.metrics_url, ports["probes"]) as behaved,
            Asking(server.address) as asking,
        ):
            _fill(server.address)
            rests = [patient.look()[0]]
            for start in range(0, total, size):
                _round(ports, asking, connections, min(size, total - start), seed + start)
                behaved.catch_up()
                rests.append(_rest(patient, rests[0], TIDY_SECONDS if total >= ENOUGH * size else 0.0))
                say(_progress(asking, connections, rests[-1], behaved))
        page = patient.page()
    with tempfile.TemporaryDirectory() as folder:
        over_tls = Hellos(Path(folder))
        tls_rests = over_tls.send(hellos, seed)
    endings = asking.endings + connections.endings + over_tls.endings
    say(f"{sum(endings.values()):7,} requests, those to the server with TLS among them")
    return Found(
        endings, asking.improper, behaved.faults + over_tls.faults, behaved.answers, behaved.slowest, rests, tls_rests,
        _handled(page), server.log + over_tls.log, server.status,
    )  # fmt: skip


def judge(found: Found) -> list[Row]:
    """Say what was kept."""
    before, after = found.rests[0], found.rests[-1]
    ours = {code: found.handled.get(code, 0) for code in OURS}
    return [
        _nothing("calls that ended as they must not", found.improper),
        _nothing("wrong or missing answers of the client", found.faults),
        Row("our handlers' codes", ", ".join(f"{code} {count}" for code, count in ours.items()), "0",
            not any(ours.values())),
        Row("texts waiting + running at rest", f"{after.waiting} + {after.running}", "0 + 0", after.at_rest),
        _permits(found.log),
        *_held("", before, after),
        *_held(" with TLS", *found.tls_rests),
        *_memory(found.rests),
        _nothing("errors and tracebacks in the log", _complaints(found.log)),
        _nothing("lines of the log with a text or an address", _indiscreet(found.log)),
        Row("exit status after SIGTERM", str(found.status), "0", found.status == 0),
    ]  # fmt: skip


def _memory(rests: list[Vitals]) -> list[Row]:
    """Compare how much it holds at rest in the earlier and in the later rounds."""
    warm = rests[max(1, len(rests) // 5) :]
    if len(warm) < ENOUGH:
        return []
    rows = []
    for name in ("resident", "native"):
        sizes = [getattr(vitals, name) for vitals in warm]
        first, second = (statistics.median(half) for half in (sizes[: len(sizes) // 2], sizes[len(sizes) // 2 :]))
        found = f"{first:.0f}, {second:.0f} MB"
        rows.append(Row(f"{name}, median of each half", found, f"<= x{GROWN}", second <= GROWN * first))
    return rows


def _held(where: str, before: Vitals, after: Vitals) -> list[Row]:
    threads, descriptors = before.threads + GROWN_THREADS, before.descriptors + GROWN_DESCRIPTORS
    return [
        Row(f"threads{where}, before and after", f"{before.threads}, {after.threads}", f"<= {threads}",
            after.threads <= threads),
        Row(f"descriptors{where}, before and after", f"{before.descriptors}, {after.descriptors}",
            f"<= {descriptors}", after.descriptors <= descriptors),
    ]  # fmt: skip


def lines(found: Found) -> list[str]:
    """Write the hostile requests by kind, and what became of them."""
    kinds: dict[str, dict[str, int]] = {}
    for (kind, ending), count in found.endings.items():
        kinds.setdefault(kind, {})[ending] = count
    beside = f"{found.answers:,} right answers for a well-behaved client, the slowest after {found.slowest:.2f} s"
    return [
        f"{sum(found.endings.values()):,} hostile requests; beside them {beside}",
        *(
            f"{kind:<28}{sum(ends.values()):>7,}  "
            + ", ".join(f"{ending} {count:,}" for ending, count in sorted(ends.items(), key=lambda item: -item[1]))
            for kind, ends in sorted(kinds.items())
        ),
        "as the server counted them: " + ", ".join(f"{code} {n:,}" for code, n in sorted(found.handled.items())),
    ]


def _fill(address: str) -> None:
    """Ask for as much as a request may: what the runtime keeps from then on, it keeps whoever asks for it."""
    asked = pb.TranslateRequest(texts=[LONGEST] * MOST_TEXTS)
    asked.options.segmentation = pb.SEGMENTATION_NONE
    asked.options.max_target_tokens = 2
    with grpc.insecure_channel(address) as channel:
        translation_pb2_grpc.TranslationServiceStub(channel).Translate(asked, timeout=PATIENCE)


def _round(ports: dict[str, str], asking: Asking, connections: Connections, count: int, seed: int) -> None:
    """Make hostile requests of all kinds at once."""
    held = 2 * HELD * len(ports)
    attacks = max(0, round(CONNECTIONS * count) - held)
    with Held(ports, HELD, seed) as holding:
        attacking = threading.Thread(target=connections.attack, args=(attacks, seed))
        attacking.start()
        asking.ask(count - attacks - held, seed)
        attacking.join()
        asking.rest()
    connections.endings.update(holding.endings)


def _rest(patient: Patient, before: Vitals, tidying: float) -> Vitals:
    """Wait until the server is as it was, but not for ever; for its memory so many seconds at most."""

    def rested(vitals: Vitals) -> bool:
        few = vitals.threads <= before.threads + GROWN_THREADS
        return vitals.at_rest and few and vitals.descriptors <= before.descriptors + GROWN_DESCRIPTORS

    patient.settle(lambda vitals: vitals.resident <= GROWN * before.resident, tidying)
    return patient.settle(rested, REST_SECONDS)


def _progress(asking: Asking, connections: Connections, rest: Vitals, behaved: Behaved) -> str:
    improper, faults = len(asking.improper), len(behaved.faults)
    return (
        f"{asking.endings.total() + connections.endings.total():7,} requests  resident {rest.resident:4.0f} MB  "
        f"native {rest.native:4.0f} MB  {rest.threads:3} threads  {rest.descriptors:3} descriptors  "
        f"waiting {rest.waiting}  running {rest.running}  {behaved.answers:,} right answers, "
        f"slowest {behaved.slowest:.2f} s, faults {faults}{behaved.faults[-1:] or ''}, "
        f"improper {improper}{asking.improper[-1:] or ''}"
    )


def _handled(page: Page) -> dict[str, int]:
    return {code: round(count) for code, count in page.by("grpc_server_handled_total", "grpc_code").items()}


def _permits(log: str) -> Row:
    """Return what the server that was ended first said of its permits when it began to drain."""
    said = re.search(r'"message":"draining","texts":(\d+)', log)
    held = said[1] if said else "not said"
    return Row("permits held in the end", held, "0", held == "0")


def _complaints(log: str) -> list[str]:
    """Return errors and tracebacks, but for one that gRPC prints where a call is gone while its error is sent."""
    words = ('"level":"ERROR"', '"level":"CRITICAL"', "Traceback")
    told = re.sub(r"Traceback[^{]*ExecuteBatchError", "", log)
    return [line for line in told.splitlines() if any(word in line for word in words)]


def _indiscreet(log: str) -> list[str]:
    """Return the lines with a text of a request, a token or a client's address.

    The server's own address is in its first line, and the request id is what the client chose.
    """
    words = (CANARY, "127.0.0.1", "ipv4:", "파일을", "가나다")
    shown = (line for line in log.splitlines() if '"message":"ready"' not in line)
    anonymous = (re.sub(r'"request_id":"[^"]*"', "", line) for line in shown)
    return [line for line in anonymous if any(word in line for word in words)]


def _nothing(name: str, found: list[str]) -> Row:
    return Row(name, f"{len(found)}" + (f", such as {found[0][:300]}" if found else ""), "0", not found)


def free_port() -> int:
    """Return a port that nobody has at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port
