"""Stand-ins whose behaviour can be worked out by hand: a model without weights, and what surrounds an engine."""

import threading
from collections.abc import Callable

import numpy as np

from service import bundle
from service.engine.engine import Engine
from service.engine.scheduler import Limits
from service.engine.session import Arrays, Encoded, Stepped
from service.request import DecodingParams, Int64, Output, Request, StepReport

PAD_ID, UNKNOWN_ID, START_ID, END_ID = 0, 1, 2, 3


def _tensor(name: str, *axes: bundle.Axis, dtype: str = "float32") -> bundle.Tensor:
    return bundle.Tensor(name, dtype, axes)


def manifest(max_source_tokens: int = 100, max_target_tokens: int = 120) -> bundle.Manifest:
    """Return the manifest of ReversingModel."""
    encoder = bundle.Graph(
        "encoder.onnx",
        (_tensor("source_ids", "row", "source", dtype="int64"), _tensor("source_lengths", "row", dtype="int64")),
        (_tensor("states", "row", "source", 1), _tensor("position", "row", 1)),
    )
    decoder = bundle.Graph(
        "decoder_step.onnx",
        (
            _tensor("token_ids", "row", dtype="int64"),
            _tensor("k", 1, dtype="int64"),
            _tensor("states", "row", "source", 1),
            _tensor("position", "row", 1),
        ),
        (
            _tensor("log_probs", "row", "candidate"),
            _tensor("ids", "row", "candidate", dtype="int64"),
            _tensor("next_position", "row", 1),
            _tensor("attention", "row", "source"),
        ),
    )
    return bundle.Manifest(
        format=bundle.FORMAT,
        model=bundle.ModelCard("toy", "reversing", "ko", "en", "Apache-2.0", "fp32", "none"),
        provenance=bundle.Provenance("0" * 64, 20, {}),
        tokenizer=bundle.Tokenizer(
            "sentencepiece", "source.spm", "target.spm", PAD_ID, UNKNOWN_ID, START_ID, END_ID, (END_ID,)
        ),
        encoder=encoder,
        decoder_step=decoder,
        memory=("states",),
        state=(bundle.StatePair("position", "next_position"),),
        attention="attention",
        decoding=bundle.Decoding(max_source_tokens, max_target_tokens, 2.0, 20, 0.0),
        parity=bundle.Parity(((1, 1),), 0.0, 0.0, 0.0, 1, 1, ()),
        quality=(),
        files=dict.fromkeys(("encoder.onnx", "decoder_step.onnx", "source.spm", "target.spm"), "0" * 64),
    )


class ReversingModel:
    """Translates a source by reversing it.

    The memory is the source ids, the state the number of tokens still to give: a step with n left gives source token
    n - 1 with log-probability -0.5 and attends to it alone; with none left it gives the end symbol. So the source
    (5, 6, 7) becomes (7, 6, 5) in four steps with score -2, and any mix-up of rows shows in the text.
    """

    provider = "cpu"

    def __init__(self, on_step: Callable[[int], None] = lambda rows: None, **limits: int) -> None:
        self.manifest = manifest(**limits)
        self._on_step = on_step
        self.encoded_batches: list[int] = []
        self.widths: list[int] = []

    def encode(self, source_ids: Int64, source_lengths: Int64) -> Encoded:
        """Keep ids `[row, source]` as memory and lengths `[row]` as state."""
        self.encoded_batches.append(len(source_ids))
        states = source_ids[:, :, None].astype(np.float32)
        return Encoded({"states": states}, {"position": source_lengths[:, None].astype(np.float32)})

    def step(self, token_ids: Int64, carried: Arrays, k: int, attention: bool) -> Stepped:
        """Give the token before the last one given; `on_step` is called first, with the number of rows."""
        self._on_step(len(token_ids))
        left = carried["position"][:, 0].astype(np.int64)
        at = np.maximum(left - 1, 0)
        rows = np.arange(len(left))
        assert len(token_ids) == len(left) == len(carried["states"])
        self.widths.append(carried["states"].shape[1])
        ids = np.where(left > 0, carried["states"][rows, at, 0].astype(np.int64), END_ID)
        weights = np.eye(carried["states"].shape[1], dtype=np.float32)[at] if attention else None
        log_probs = np.full((len(left), k), -0.5, np.float32)
        return Stepped(log_probs, np.repeat(ids[:, None], k, axis=1), weights, {"position": carried["position"] - 1})


class FakePermit:
    """A permit that is good until it is told otherwise."""

    def __init__(self, returned: bool = False) -> None:
        self.returned = returned


class Recorder:
    """Takes Outputs and step reports, on any thread, and lets a test wait for a request's end."""

    def __init__(self) -> None:
        self.outputs: list[Output] = []
        self.reports: list[StepReport] = []
        self.failures: list[BaseException] = []
        self._changed = threading.Condition()

    def deliver(self, outputs: list[Output]) -> None:
        """Take the Outputs of one step."""
        with self._changed:
            self.outputs += outputs
            self._changed.notify_all()

    def observe_step(self, report: StepReport) -> None:
        """Take note of one step."""
        self.reports.append(report)

    def observe_outputs(self, outputs: list[Output]) -> None:
        """Take note of nothing: deliver does."""

    def fail(self, error: BaseException) -> None:
        """Take note that the engine thread ended."""
        self.failures.append(error)

    def of(self, request_id: str) -> list[Output]:
        """Return the Outputs of one request."""
        return [output for output in self.outputs if output.request_id == request_id]

    def last(self, request_id: str, timeout: float = 10.0) -> Output:
        """Wait for the last Output of a request and return it."""
        with self._changed:
            ended = self._changed.wait_for(lambda: any(o.finish_reason for o in self.of(request_id)), timeout)
        assert ended, f"request {request_id} did not end within {timeout} s"
        return next(output for output in self.of(request_id) if output.finish_reason)


class Stage:
    """An engine with a clock that a test moves."""

    def __init__(self, model: ReversingModel | None = None, limits: Limits = Limits(max_rows=4)) -> None:
        self.model = model or ReversingModel()
        self.recorder = Recorder()
        self.now = 100.0
        self.engine = Engine(
            self.model, limits, self.recorder.deliver, self.recorder, self.recorder.fail, clock=lambda: self.now
        )

    def submit(self, name: str, source: tuple[int, ...], *, deadline: float | None = None, incremental: bool = False,
               limit: int = 120, attention: bool = False) -> None:  # fmt: skip
        """Submit one request."""
        params = DecodingParams(limit, return_attention=attention)
        self.engine.submit(Request(name, source, params, deadline, incremental), FakePermit())

    def finish(self, steps: int = 1000) -> None:
        """Step until nothing is left to do."""
        for _ in range(steps):
            if not self.engine.step():
                return
        raise AssertionError("the engine never came to rest")

    def text(self, name: str) -> tuple[int, ...]:
        """Return the best hypothesis of an ended request."""
        return self.recorder.last(name, timeout=0).hypotheses[0].token_ids
