"""The real engine, stepped by hand: what arrives when is decided here, so that it can be repeated."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np

from service import bundle
from service.engine.engine import Engine
from service.engine.scheduler import Limits
from service.engine.session import Model, OnnxModel
from service.metrics import Metrics, ModelLabels
from service.request import DecodingParams, Output, Request
from tests.benchmark.load import Translated
from tests.benchmark.offline import vocabularies_of
from tests.fakes import FakePermit

Arrivals = Callable[[int], int]
"""Says how many requests arrive before the next step, given how many are in the engine."""
Source = Sequence[int]
UNWATCHED = nullcontext()
GREEDY = DecodingParams(max_target_tokens=1)
"""The limit is each source's own."""


def alone(inside: int) -> int:
    """Let one request come when the engine is empty."""
    return 0 if inside else 1


def batches(rows: int) -> Arrivals:
    """Let `rows` requests come together when the engine is empty."""
    return lambda inside: 0 if inside else rows


def replacing(rows: int) -> Arrivals:
    """Keep `rows` requests in the engine: each that ends makes room for one."""
    return lambda inside: rows - inside


def at_random(mean: float, seed: int) -> Arrivals:
    """Let requests arrive as in a Poisson process, `mean` per step."""
    chance = np.random.default_rng(seed)
    return lambda inside: int(chance.poisson(mean))


ARRIVALS: dict[str, Arrivals] = {
    "alone": alone,
    "full batches": batches(64),
    "random arrivals, many": at_random(2.0, seed=17),
    "random arrivals, few": at_random(0.3, seed=18),
}


class HandEngine:
    """Decodes without a thread, a network or text; with the service's own metrics as observer."""

    def __init__(self, model: Model, max_rows: int) -> None:
        labels = ModelLabels("model", "1", "family", "cpu", "precision")
        self._limit = model.manifest.decoding.target_limit
        self._finished: dict[str, Output] = {}
        self._engine = Engine(
            model=model,
            limits=Limits(max_rows=max_rows),
            deliver=self._take,
            observer=Metrics.create().add_model(labels, 0.0, pending=lambda: 0),
            on_failure=lambda error: None,
        )
        self.step = self._engine.step
        self.submitted = 0

    @property
    def inside(self) -> int:
        """Requests that were submitted and have not ended."""
        return self.submitted - len(self._finished)

    def submit(self, source: Source, wanted: DecodingParams = GREEDY) -> None:
        """Queue one source, to be decoded as wanted up to its own limit."""
        params = dataclasses.replace(wanted, max_target_tokens=self._limit(len(source)))
        self._engine.submit(Request(str(self.submitted), tuple(source), params), FakePermit())
        self.submitted += 1

    def submit_all(self, sources: Sequence[Source], params: DecodingParams) -> None:
        """Queue sources, to be decoded as wanted to the letter."""
        for source in sources:
            self._engine.submit(Request(str(self.submitted), tuple(source), params), FakePermit())
            self.submitted += 1

    def outputs(self) -> list[Output]:
        """Return the last Output of every request, in the order of submission; raise what any of them ended with."""
        found = [self._finished[str(number)] for number in range(self.submitted)]
        for output in found:
            if output.error is not None:
                raise output.error
        return found

    def _take(self, outputs: list[Output]) -> None:
        self._finished.update((output.request_id, output) for output in outputs if output.finish_reason)


def decode(
    model: Model,
    sources: Sequence[Source],
    arrivals: Arrivals,
    max_rows: int = 64,
    around_step: AbstractContextManager[object] = UNWATCHED,
    wanted: DecodingParams = GREEDY,
) -> list[Output]:
    """Decode all sources as they arrive; `around_step` is entered around each step."""
    engine = HandEngine(model, max_rows)
    waiting = iter(sources)
    while engine.submitted < len(sources) or engine.inside:
        for source in itertools.islice(waiting, arrivals(engine.inside)):
            engine.submit(source, wanted)
        with around_step:
            engine.step()
    return engine.outputs()


def together(model: Model, sources: Sequence[Source], max_rows: int, params: DecodingParams) -> list[Output]:
    """Decode all sources, which wait in their order from the beginning."""
    engine = HandEngine(model, max_rows)
    engine.submit_all(sources, params)
    while engine.inside:
        engine.step()
    return engine.outputs()


class HandDecoder:
    """Translates the same texts by the engine of a bundle, again and again."""

    def __init__(self, folder: Path, texts: Sequence[str]) -> None:
        loaded = bundle.load(folder)
        self._model = OnnxModel.load(loaded, "cpu")
        self._vocabularies = vocabularies_of(folder, loaded)
        self._sources = [self._vocabularies.source_ids(text) for text in texts]

    def __call__(self, arrivals: str) -> list[Translated]:
        """Translate them as they arrive, by a name of ARRIVALS."""
        target = self._vocabularies.target
        outputs = decode(self._model, self._sources, ARRIVALS[arrivals])
        found = [list(output.hypotheses[0].token_ids) for output in outputs]
        return [Translated(self._vocabularies.target_text(ids), target.id_to_piece(ids)) for ids in found]
