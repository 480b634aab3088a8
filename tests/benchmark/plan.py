"""What to run the benchmarks on, and how much of it."""

import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from export.training.corpus import read_tsv
from service.bundle import Manifest, read_manifest

ROOT = Path(__file__).resolve().parents[2]
EMBEDDED = ROOT / "service/bundles/ko-en/1"
CHECKPOINT = ROOT / "export/checkpoints/ko-en"
CORPUS = ROOT.parent / "shared/corpus"
COMMITTED = ROOT / "tests/data"
TEST_SETS = ("test.tsv", "everyday_test.tsv")
SHORT_TEXT = "파일을 열 수 없습니다"
PACKAGES = ("numpy", "onnxruntime-gpu", "torch", "grpcio")


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much to measure; `rounds` is the number of repetitions of whatever alternates."""

    rounds: int = 5
    sentences: int = 2000
    """Of each test set, and for throughput."""
    single_sentences: int = 250
    """For the slowest contender, PyTorch sentence by sentence."""
    latency_calls: int = 40
    """In each round."""
    starts: int = 5
    start_requests: int = 200
    host_steps: int = 1000
    invariance_sentences: int = 500
    decoding_sentences: int = 400
    """At each number of sentences in flight, in each round."""
    arrival_rounds: int = 2
    unloaded_texts: int = 200
    capacity_texts: int = 800
    probe_seconds: float = 6.0
    """Of arrivals at one rate."""
    probe_texts: int = 300
    """As many at least."""
    probes: int = 5
    """Rates that are tried to find the highest one."""
    crowd_texts: int = 1000
    """In each of the ten requests."""
    crowd_calls: int = 100
    """Single requests, in each round."""
    storm_calls: int = 2000
    peer_rounds: int = 3
    peer_sentences: int = 256
    """At a batch of 64, in each round; fewer in smaller batches."""
    served_rounds: int = 2
    long_rows: int = 32
    long_tokens: tuple[int, ...] = (10, 40, 160, 400)


QUICK = Sizes(rounds=2, sentences=12, single_sentences=4, latency_calls=4, starts=1, start_requests=12, host_steps=24,
              invariance_sentences=12, decoding_sentences=12, arrival_rounds=1, unloaded_texts=4, capacity_texts=64,
              probe_seconds=1.0, probe_texts=10, probes=2, crowd_texts=20, crowd_calls=4, storm_calls=64,
              peer_rounds=1, peer_sentences=4, served_rounds=1, long_rows=2, long_tokens=(4, 8))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """Read once, by the command line; `say` reports progress."""

    bundles: tuple[Path, ...]
    """The first is the one that goals are about; the others are shown beside it."""
    checkpoint: Path
    corpus: Path
    sizes: Sizes
    say: Callable[[str], None]
    against: str | None = None
    """A revision to compare the code with."""
    picture: Path | None = None
    """Where to draw what is drawn."""

    def pairs(self, name: str = "test.tsv") -> list[tuple[str, str]]:
        """Return source and reference of the sentences of a test set."""
        return list(read_tsv(self.corpus / name))[: self.sizes.sentences]

    def texts(self, count: int) -> list[str]:
        """Return sources of test.tsv: all of them are like the first ones, since a hash has shuffled them."""
        return [source for source, _ in self.pairs()][:count]

    def check(self) -> None:
        """Raise ValueError, StartupError or OSError where something is missing, or does not belong together."""
        from export import originals  # noqa: PLC0415  torch, which few workers need
        from export.bundle_command import check_origin  # noqa: PLC0415
        from export.original import Languages  # noqa: PLC0415

        for bundle in self.bundles:
            manifest = read_manifest(bundle)
            languages = Languages(manifest.model.source_language, manifest.model.target_language)
            check_origin(manifest, originals.load(self.checkpoint, languages, [], manifest.attention_layer or 0).facts)
        for name in TEST_SETS:
            if not (self.corpus / name).is_file():
                raise ValueError(f"--corpus: {self.corpus} has no {name}; {COMMITTED} holds a few sentences of it")


def label(manifest: Manifest) -> str:
    """Name a bundle in the tables."""
    return manifest.model.precision


def machine() -> dict[str, str]:
    """Describe where this runs; a load above nothing says that others disturbed it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "processor": f"{model}, {len(os.sched_getaffinity(0))} processors",
        "load average before": f"{os.getloadavg()[0]:.2f}",
        "software": f"Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in PACKAGES),
    }


class Progress:
    """Says on stderr what is being done, and when it began, in seconds from the start."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def __call__(self, text: str) -> None:
        """Print one line."""
        print(f"[{time.monotonic() - self._started:7.1f} s] {text}", file=sys.stderr, flush=True)
