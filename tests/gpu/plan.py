"""What the GPU command measures, how much of it, and how long each part may take. Needs the standard library alone."""

import dataclasses
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINT = ROOT / "export/checkpoints/ko-en"
SENTENCES = ROOT / "tests/data/test.tsv"
OUTPUT = ROOT / "build/gpu"
FAMILIES = ("attention-rnn", "transformer")
PRECISIONS = ("fp32", "fp16")
GOAL_ROWS, LARGE_ROWS = 32, 512
"""Rows that the goals against PyTorch and for the host are about, and the one for the floor."""
PACKAGES = ("numpy", "onnx", "onnxruntime", "torch", "transformers", "msgspec", "sentencepiece", "sacrebleu", "grpc",
            "google.rpc", "grpc_health", "grpc_reflection", "prometheus_client", "yaml", "sentencex", "uvloop",
            "pytest", "pytest_asyncio", "hypothesis")  # fmt: skip
"""What is imported, by the names of modules."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sizes:
    """How much to measure."""

    rows: tuple[int, ...] = (1, 8, GOAL_ROWS, 128, LARGE_ROWS)
    source_tokens: int = 24
    warm_steps: int = 32
    steps: int = 64
    """Measured, behind the warm ones: a target is then 32 to 96 tokens long."""
    profiled_steps: int = 8
    peer_steps: int = 100
    copy_bytes: int = 1 << 30
    transformer: tuple[int, int, int] = (512, 6, 8)
    """Width, layers of each stack and heads of the Transformer that is measured; its weights are random."""
    in_flight: tuple[int, ...] = (1, 64, 512)
    calls: int = 40
    """For each request in flight, at most 4,000 in all."""

    @property
    def target_tokens(self) -> int:
        """Tokens that a target may have: more than any step comes to."""
        return self.warm_steps + self.steps + self.profiled_steps + 2


QUICK = Sizes(rows=(1, 4), source_tokens=6, warm_steps=2, steps=4, peer_steps=2, copy_bytes=1 << 22,
              transformer=(16, 1, 2), in_flight=(1, 4), calls=2)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """Read once, by the command line, and passed on to each part's process."""

    provider: str
    output: Path
    checkpoint: Path
    compile: bool
    """Whether torch.compile is measured, which takes a minute or two."""
    quick: bool

    @property
    def sizes(self) -> Sizes:
        """How much."""
        return QUICK if self.quick else Sizes()

    @property
    def device(self) -> str:
        """What PyTorch calls the device."""
        return "cpu" if self.provider == "cpu" else "cuda"

    @property
    def judged(self) -> bool:
        """Whether the goals are about this: they speak of a GPU."""
        return self.provider != "cpu" and not self.quick

    @property
    def rows(self) -> int:
        """The rows that are compared with PyTorch."""
        return GOAL_ROWS if GOAL_ROWS in self.sizes.rows else max(self.sizes.rows)

    def bundle(self, family: str, precision: str) -> Path:
        """Where a bundle is written."""
        return self.output / "bundles" / f"{family}-{precision}" / "1"

    def to_json(self) -> str:
        """Write it for another process."""
        return json.dumps(dataclasses.asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Read what `to_json` wrote."""
        fields: dict[str, Any] = json.loads(text)
        return cls(**fields | {name: Path(fields[name]) for name in ("output", "checkpoint")})
