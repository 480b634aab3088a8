"""The decoding engine: one thread, one batch, requests that join and leave between two steps.

A request's life in here:

1. `submit` puts it into the inbox, on any thread; the engine thread takes it up at its next step: it waits.
2. The scheduler lets it join when its rows fit. All that join at a step are encoded together, and their rows are
   appended to the batch: it runs.
3. Each step advances every row by one token; the search says which, and who has ended.
4. Who has ended leaves with its last Output; the last rows move into the holes.
5. All Outputs of a step are delivered in one call. Whoever is cancelled, or whose deadline passes, leaves before the
   next step, wherever it is.
"""

import collections
import logging
import threading
import time
from collections.abc import Callable, Iterable

import numpy as np

from service.engine.batch import Batch
from service.engine.pace import Pace
from service.engine.scheduler import Limits, Scheduler, similar_lengths
from service.engine.search import Search
from service.engine.sequence import Sequence, padded
from service.engine.session import Model
from service.errors import DeadlineExceededError, EngineFailedError, OutOfMemoryError, ServiceError, UnavailableError
from service.request import DecodingParams, FinishReason, Output, Permit, Request, StepObserver, StepReport

logger = logging.getLogger(__name__)


class Engine:
    """Decodes requests on a thread of its own. Threads may call `submit`, `cancel`, `fits` and `forecast`."""

    def __init__(
        self,
        model: Model,
        limits: Limits,
        deliver: Callable[[list[Output]], None],
        observer: StepObserver,
        on_failure: Callable[[BaseException], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Store what the engine works with.

        `deliver` gets all Outputs of a step, on the engine thread; `on_failure` is called there if that thread ends
        by an error, after everything in it has failed.
        """
        self._model = model
        self._deliver = deliver
        self._observer = observer
        self._on_failure = on_failure
        self._clock = clock
        self._limits = limits
        self._scheduler = Scheduler(limits)
        self._pace = Pace()
        self._batch = Batch(model)
        tokenizer, decoding = model.manifest.tokenizer, model.manifest.decoding
        self._search = Search(tokenizer.end_id, decoding.max_target_tokens)
        self._pad_id = tokenizer.pad_id
        self._inbox: collections.deque[Sequence | str | None] = collections.deque()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._stopping = False
        self._outputs: list[Output] = []
        self._step_number = 0
        self._row_steps = 0
        self._joined: list[Sequence] = []
        self._incremental: list[tuple[int, Sequence]] = []
        self._attention_wanted = False

    def start(self) -> None:
        """Start the engine thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the engine thread and wait for it; what is still in it fails as UNAVAILABLE."""
        self._post(None)
        if self._thread.ident is not None:
            self._thread.join()

    def submit(self, request: Request, permit: Permit) -> None:
        """Queue a request; its Outputs arrive through `deliver`. Its id must not be in use."""
        if permit.returned:
            raise ValueError(f"this is a bug: request {request.request_id} has no permit")
        if not self.fits(request.params):
            raise ValueError(f"this is a bug: request {request.request_id} never fits into {self._limits}")
        self._post(Sequence(request, permit, self._clock()))

    def cancel(self, request_id: str) -> None:
        """End a request before the next step; unknown and ended ones are ignored."""
        self._post(request_id)

    def fits(self, params: DecodingParams) -> bool:
        """Return whether a request that is decoded like this can ever run. May be called from any thread."""
        return self._limits.fit(params.rows, params.max_target_tokens)

    def forecast(self, request: Request) -> float:
        """Return the seconds until a request that is submitted now would end, by what others took; 0: not known.

        May be called from any thread.
        """
        rows = request.params.rows
        ahead = self._scheduler.rows + self._scheduler.waiting_rows
        return self._pace.forecast(len(request.source_ids), rows, ahead, self._limits.max_rows)

    def _post(self, item: Sequence | str | None) -> None:
        self._inbox.append(item)
        self._wake.set()

    def _run(self) -> None:
        try:
            while True:
                busy = self.step()
                if self._stopping:
                    break
                if not busy:
                    self._wake.wait()
                    self._wake.clear()
            self._fail_all(UnavailableError("the server is stopping; send the request to another one"))
        except BaseException as error:
            logger.exception("the engine thread ended")
            self._fail_all(EngineFailedError("the engine failed; the log says why"))
            self._on_failure(error)
            raise

    def step(self) -> bool:
        """Advance everything by one token; return whether there is more to do."""
        started = self._clock()
        self._drain_inbox()
        joining = self._scheduler.join()
        encode = self._encode(joining) if joining else 0.0
        rows = self._scheduler.rows
        step = self._advance() if rows else 0.0
        self._flush()
        if joining or rows:
            seconds = self._clock() - started
            self._pace.note_step(rows, seconds)
            self._observer.observe_step(
                StepReport(
                    joined=len(joining),
                    source_tokens=sum(sequence.source_length for sequence in joining),
                    rows=rows,
                    waiting=self._scheduler.waiting,
                    running=len(self._scheduler.running),
                    encode=encode,
                    step=step,
                    host=seconds - encode - step,
                )
            )
        return bool(self._inbox or self._scheduler.waiting or self._scheduler.running)

    def _drain_inbox(self) -> None:
        while self._inbox:
            item = self._inbox.popleft()
            if item is None:
                self._stopping = True
            elif isinstance(item, str):
                self._abort(item, FinishReason.CANCELLED, UnavailableError("the request was cancelled"))
            else:
                self._scheduler.add(item)
        for request_id in self._scheduler.expired(self._clock()):
            self._abort(
                request_id,
                FinishReason.DEADLINE,
                DeadlineExceededError("the deadline passed before the translation was complete; allow more time"),
            )

    def _encode(self, joining: list[Sequence]) -> float:
        """Encode those who join, in groups of similar length, and append their rows; return the seconds it took."""
        started = self._clock()
        taken_up = len(self._scheduler.running) - len(joining)
        for group in similar_lengths(joining):
            ids, lengths = padded(group, self._pad_id)
            for sequence in group:
                sequence.joined = started
            try:
                encoded = self._model.encode(ids, lengths)
            except Exception as error:  # noqa: BLE001  whatever it is, no row of the batch was touched by it
                self._fail(range(taken_up, len(self._scheduler.running)), error)
                break
            try:
                self._batch.insert(encoded, lengths, np.array([sequence.rows for sequence in group]))
            except MemoryError as error:
                self._fail(range(len(self._scheduler.running)), error)
                break
            self._take_up(group)
            taken_up += len(group)
        self._note_wishes()
        return self._clock() - started

    def _take_up(self, group: list[Sequence]) -> None:
        """Note that these sequences run from now on."""
        self._search.join(group)
        self._joined += group
        now = self._clock()
        for sequence in group:
            sequence.encoded = now
            sequence.first_step, sequence.first_row_steps = self._step_number, self._row_steps

    def _advance(self) -> float:
        """Run one step over all rows and let go who has ended; return the seconds inside the model."""
        started = self._clock()
        try:
            stepped = self._batch.advance(self._search.k, self._attention_wanted)
        except Exception as error:  # noqa: BLE001  whatever it is, all rows of this step have lost their state
            self._fail(range(len(self._scheduler.running)), error)
            return self._clock() - started
        now = self._clock()
        self._step_number += 1
        self._row_steps += self._scheduler.rows
        selection = self._search.select(stepped)
        if selection.parents is not None:
            self._batch.reorder(selection.parents)
        self._batch.feed(selection.tokens)
        for sequence in self._joined:
            sequence.first_token = now
        self._joined = []
        for index, sequence in self._incremental:
            if index not in selection.finished and (grown := self._search.settled(index, sequence.delivered)):
                sequence.delivered += len(grown)
                self._outputs.append(Output(sequence.request.request_id, token_ids=tuple(grown)))
        if selection.finished:
            self._release(selection.finished, now)
        return now - started

    def _release(self, finished: list[int], now: float) -> None:
        """Let those who have ended leave with their hypotheses."""
        for index in finished:
            sequence = self._scheduler.running[index]
            self._note_steps(sequence)
            self._pace.note_end(sequence)
            self._outputs.append(sequence.finish(self._search.hypotheses(index, sequence), now))
        self._leave(finished)

    def _abort(self, request_id: str, reason: FinishReason, error: ServiceError) -> None:
        """End one sequence before its end, wherever it is; unknown ids are ignored."""
        sequence = self._scheduler.withdraw(request_id)
        if sequence is None:
            running = self._scheduler.running
            index = next((i for i, s in enumerate(running) if s.request.request_id == request_id), None)
            if index is None:
                return
            sequence = running[index]
            self._note_steps(sequence)
            self._leave([index])
        self._outputs.append(sequence.abort(reason, error, self._clock()))

    def _fail(self, indices: range, error: Exception) -> None:
        """End running sequences by an error; all of them where their rows cannot be trusted any more."""
        failed = [self._scheduler.running[index] for index in indices]
        names = [sequence.request.request_id for sequence in failed]
        logger.error("a step failed; requests %s end with it", names, exc_info=error)
        told: ServiceError = EngineFailedError("decoding failed; the log has the cause under the request id")
        if isinstance(error, MemoryError):
            told = OutOfMemoryError("no memory for this batch; send it again, shorter or later", retry_after=1.0)
        now = self._clock()
        for sequence in failed:
            if sequence.encoded:
                self._note_steps(sequence)
            self._outputs.append(sequence.abort(FinishReason.ERROR, told, now))
        self._leave(indices)

    def _note_steps(self, sequence: Sequence) -> None:
        """Note how many steps a sequence has had, and over how many rows."""
        sequence.steps = self._step_number - sequence.first_step
        sequence.row_steps = self._row_steps - sequence.first_row_steps

    def _leave(self, indices: Iterable[int]) -> None:
        order, kept = self._scheduler.leave(indices)
        self._search.keep(order, kept)
        if kept:
            self._batch.keep(kept)
        else:
            self._batch.clear()
        self._note_wishes()

    def _note_wishes(self) -> None:
        """Note which running sequences want to hear of every step, so that a step asks nobody else."""
        running = self._scheduler.running
        self._incremental = [(i, sequence) for i, sequence in enumerate(running) if sequence.request.incremental]
        self._attention_wanted = any(sequence.request.params.return_attention for sequence in running)

    def _fail_all(self, error: ServiceError) -> None:
        """End everything: what runs, what waits, and what is still in the inbox."""
        inbox = [item for item in self._inbox if isinstance(item, Sequence)]
        now = self._clock()
        dropped = [*self._scheduler.clear(), *inbox]
        self._outputs += [sequence.abort(FinishReason.ERROR, error, now) for sequence in dropped]
        self._flush()

    def _flush(self) -> None:
        """Deliver the Outputs of this step, all at once."""
        if self._outputs:
            outputs, self._outputs = self._outputs, []
            self._observer.observe_outputs(outputs)
            self._deliver(outputs)
