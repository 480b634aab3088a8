"""Stand-ins whose behaviour can be worked out by hand: a model without weights, and what surrounds an engine."""

import asyncio
import functools
import threading
import zlib
from collections.abc import Callable

import msgspec
import numpy as np

from service import bundle
from service.engine.device.batch import AnyModel
from service.engine.engine import Engine
from service.engine.scheduler import Limits
from service.engine.session import Arrays, Encoded, Stepped
from service.request import DecodingParams, Float32, Hypothesis, Int64, Output, Request, StepReport

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
            _tensor("states", "group", "source", 1),
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
        groups, width = carried["states"].shape[:2]
        assert len(token_ids) == len(left)
        group = np.arange(len(left)) // (len(left) // groups)
        self.widths.append(width)
        ids = np.where(left > 0, carried["states"][group, at, 0].astype(np.int64), END_ID)
        weights = np.eye(carried["states"].shape[1], dtype=np.float32)[at] if attention else None
        log_probs = np.full((len(left), k), -0.5, np.float32)
        return Stepped(log_probs, np.repeat(ids[:, None], k, axis=1), weights, {"position": carried["position"] - 1})


class BabblingModel:
    """A small language model whose every prefix has a distribution of its own, which a test can work out as well.

    The state is a number that stands for the source and all tokens so far; log-probabilities and attention are drawn
    from it. So two hypotheses that change places, or one that reads another's state, show in every number.
    """

    provider = "cpu"

    def __init__(self, vocabulary: int, end_bias: float = 0.0, **limits: int) -> None:
        self.manifest = manifest(**limits)
        self._vocabulary = vocabulary
        self._end_bias = end_bias

    def encode(self, source_ids: Int64, source_lengths: Int64) -> Encoded:
        """Keep the ids as memory, and a number made of them as state."""
        seeds = [self.start(ids[:length].tolist()) for ids, length in zip(source_ids, source_lengths, strict=True)]
        return Encoded({"states": source_ids[:, :, None].astype(np.float32)}, {"position": np.array(seeds)[:, None]})

    def step(self, token_ids: Int64, carried: Arrays, k: int, attention: bool) -> Stepped:
        """Give the best k of each row's distribution; the start symbol leaves the state as it is."""
        states = [self.follow(state, token) for state, token in zip(carried["position"][:, 0], token_ids, strict=True)]
        log_probs = np.stack([self.log_probs(state) for state in states])
        ids = np.argsort(-log_probs, axis=1, kind="stable")[:, :k]
        groups = len(carried["states"])
        memory = carried["states"][:, :, 0].repeat(len(states) // groups, axis=0)
        weights = np.stack([self.attention(state, row) for state, row in zip(states, memory, strict=True)])
        best = np.take_along_axis(log_probs, ids, 1)
        missing = ((0, 0), (0, max(0, k - self._vocabulary)))
        best, ids = np.pad(best, missing, constant_values=-np.inf), np.pad(ids, missing)
        return Stepped(best, ids, weights if attention else None, {"position": np.array(states)[:, None]})

    @staticmethod
    def start(source: list[int]) -> int:
        """Return the state that a source begins with."""
        return zlib.crc32(repr(source).encode())

    @staticmethod
    def follow(state: int, token: int) -> int:
        """Return the state behind a token."""
        return int(state) if token == START_ID else zlib.crc32(f"{state} {token}".encode())

    def log_probs(self, state: int) -> Float32:
        """Return the log-probabilities `[vocabulary]` of a state; only the end symbol and real words have any."""
        scores = np.random.default_rng(state).normal(0.0, 1.5, self._vocabulary)
        scores[END_ID] += self._end_bias
        scores[:END_ID] = -np.inf
        normalized: Float32 = (scores - np.logaddexp.reduce(scores)).astype(np.float32)
        return normalized

    @staticmethod
    def attention(state: int, memory: Float32) -> Float32:
        """Return weights `[source]` over what is no padding."""
        weights = np.random.default_rng(state + 1).random(len(memory)) * (memory > 0)
        normalized: Float32 = (weights / weights.sum()).astype(np.float32)
        return normalized


class CachingModel(BabblingModel):
    """The same language model, whose state is a cache of its tokens: only the source's number stands beside it."""

    def __init__(self, vocabulary: int, end_bias: float = 0.0, **limits: int) -> None:
        super().__init__(vocabulary, end_bias, **limits)
        step = self.manifest.decoder_step
        cache = _tensor("tokens", "row", 1, "target", 1)
        inputs = (*step.inputs, _tensor("lengths", "row", dtype="int64"), cache)
        outputs = (*step.outputs, msgspec.structs.replace(cache, name="next_tokens"))
        self.manifest = msgspec.structs.replace(
            self.manifest,
            decoder_step=msgspec.structs.replace(step, inputs=inputs, outputs=outputs),
            state=(*self.manifest.state, bundle.StatePair("tokens", "next_tokens")),
        )

    def step(self, token_ids: Int64, carried: Arrays, k: int, attention: bool) -> Stepped:
        """Write each row's token where it belongs, and work out the state from all of them."""
        cache, lengths, starts = carried["tokens"], carried["lengths"], carried["position"]
        assert cache.flags.c_contiguous
        assert len(token_ids) == len(cache)
        cache[np.arange(len(cache)), 0, lengths, 0] = token_ids
        before = [
            functools.reduce(self.follow, tokens[:length].astype(int).tolist(), int(start))
            for start, tokens, length in zip(starts[:, 0], cache[:, 0, :, 0], lengths, strict=True)
        ]
        stepped = super().step(token_ids, carried | {"position": np.array(before)[:, None]}, k, attention)
        return stepped._replace(state={"position": starts})


class FakePermit:
    """A permit that is good until it is told otherwise."""

    def __init__(self, returned: bool = False) -> None:
        self.returned = returned


class Bystander:
    """Another task of the event loop, that wants nothing but its turns."""

    def __init__(self) -> None:
        self.turns = 0

    async def __aenter__(self) -> "Bystander":
        """Take turns from now on."""
        self._task = asyncio.create_task(self._take())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Take no more."""
        self._task.cancel()

    async def _take(self) -> None:
        while True:
            self.turns += 1
            await asyncio.sleep(0)


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

    def __init__(self, model: AnyModel | None = None, limits: Limits = Limits(max_rows=4)) -> None:
        self.recorder = Recorder()
        self.now = 100.0
        self.engine = Engine(
            model or ReversingModel(),
            limits,
            self.recorder.deliver,
            self.recorder,
            self.recorder.fail,
            clock=lambda: self.now,
        )

    def submit(self, name: str, source: tuple[int, ...], *, deadline: float | None = None, incremental: bool = False,
               limit: int = 120, attention: bool = False) -> None:  # fmt: skip
        """Submit one request."""
        self.ask(Request(name, source, DecodingParams(limit, return_attention=attention), deadline, incremental))

    def ask(self, request: Request) -> None:
        """Submit a request as it is."""
        self.engine.submit(request, FakePermit())

    def decode(self, source: tuple[int, ...], params: DecodingParams) -> tuple[Hypothesis, ...]:
        """Decode one request alone, to its end."""
        self.ask(Request("alone", source, params))
        self.finish()
        hypotheses = self.recorder.last("alone", timeout=0).hypotheses
        self.recorder.outputs.clear()
        return hypotheses

    def finish(self, steps: int = 1000) -> None:
        """Step until nothing is left to do."""
        for _ in range(steps):
            if not self.engine.step():
                return
        raise AssertionError("the engine never came to rest")

    def text(self, name: str) -> tuple[int, ...]:
        """Return the best hypothesis of an ended request."""
        return self.recorder.last(name, timeout=0).hypotheses[0].token_ids
