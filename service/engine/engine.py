"""The decoding engine: one thread, and requests that join and leave a batch between two steps.

A request's life in here:

1. `submit` puts it into the inbox, on any thread; the engine thread takes it up at its next step: it waits.
2. The scheduler lets it join when its rows fit. All that join at a step are encoded together, and with them some that
   will join soon; the rows of those that join are appended to the batch of a deck: it runs.
3. Each step advances every row of a deck by one token; the search says which, and who has ended. Usually there is one
   deck; beside a crowd, those who ask for little have one of their own, and most of the time.
4. Who has ended leaves with its last Output; the last rows move into the holes.
5. All Outputs of a step are delivered in one call: at its end, or while a device does the next one. Whoever is
   cancelled, or whose deadline passes, leaves before the next step, wherever it is.
"""

import collections
import logging
import threading
import time
from collections.abc import Callable

from service.engine.deck import Deck
from service.engine.device.batch import AnyModel, settle
from service.engine.pace import Pace
from service.engine.scheduler import Limits, Scheduler, similar_lengths
from service.engine.sequence import Sequence, padded
from service.engine.session import EncodedSource
from service.errors import DeadlineExceededError, EngineFailedError, OutOfMemoryError, ServiceError, UnavailableError
from service.request import DecodingParams, FinishReason, Output, Permit, Request, StepObserver, StepReport

logger = logging.getLogger(__name__)

TOO_LATE = "the deadline passed before the translation was complete; allow more time"
REPORT_SECONDS = 0.02
"""For how long the observer is not told of steps at which nobody ended."""


class Engine:
    """Decodes requests on a thread of its own. Threads may call `submit`, `cancel`, `fits` and `forecast`."""

    def __init__(
        self,
        model: AnyModel,
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
        self._decks = {roster: Deck(model, roster) for roster in self._scheduler.rosters}
        self._pad_id = model.manifest.tokenizer.pad_id
        self._inbox: collections.deque[Sequence | str | None] = collections.deque()
        self._wake = threading.Event()
        self._resting = False
        """Whether the engine thread waits, or is about to look into the inbox for the last time before it does."""
        self._thread: threading.Thread | None = None  # one that never runs would keep this engine, and its model, alive
        self._stopping = False
        self._outputs: list[Output] = []
        self._reports: list[StepReport] = []
        self._reported = 0.0
        """When the observer was told last."""
        self._encoder_runs = 0
        self._late = False
        """Whether the last step was done by a device while this thread told of the step before."""

    @property
    def inside(self) -> int:
        """Requests in it; the number may be a step old. For any thread."""
        return len(self._inbox) + self._scheduler.waiting + self._scheduler.running

    def start(self) -> None:
        """Start the engine thread."""
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def thread_id(self) -> int | None:
        """The operating system's id of its thread; None: there is none."""
        return None if self._thread is None else self._thread.native_id

    def stop(self) -> None:
        """End the engine thread and wait for it; what is still in it fails as UNAVAILABLE."""
        self._post(None)
        if self._thread is not None:
            self._thread.join()

    def submit(self, request: Request, permit: Permit) -> None:
        """Queue a request; its Outputs arrive through `deliver`. Its id must not be in use."""
        if permit.returned:
            raise ValueError(f"this is a bug: request {request.request_id} has no permit")
        if not self.fits(request.params):
            raise ValueError(f"this is a bug: request {request.request_id} never fits into {self._limits}")
        self._post(Sequence(request, permit, self._clock() if request.arrived is None else request.arrived))

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
        ahead = self._scheduler.ahead_of(request)
        return self._pace.forecast(len(request.source_ids), request.params.rows, ahead, self._limits.max_rows)

    def _post(self, item: Sequence | str | None) -> None:
        self._inbox.append(item)
        if self._resting:
            self._wake.set()

    def _run(self) -> None:
        try:
            settle(self._model)
            while True:
                busy = self.step()
                if self._stopping:
                    break
                if not busy:
                    self._rest()
            self._fail_all(UnavailableError("the server is stopping; send the request to another one"))
        except BaseException as error:
            logger.exception("the engine thread ended")
            self._fail_all(EngineFailedError("the engine failed; the log says why"))
            self._on_failure(error)
            raise

    def _rest(self) -> None:
        """Wait until something is in the inbox; others know of it before this thread looks for the last time."""
        self._resting = True
        if not self._inbox:
            self._wake.wait()
        self._resting = False
        self._wake.clear()

    def step(self) -> bool:
        """Let join who can, and advance a deck by one token; return whether there is more to do."""
        started = self._clock()
        if self._inbox:
            self._drain_inbox()
        scheduler = self._scheduler
        for request_id in scheduler.expired(started):
            self._abort(request_id, FinishReason.DEADLINE, DeadlineExceededError(TOO_LATE))
        joining: list[Sequence] = []
        encode = 0.0
        if scheduler.join():
            joining = [sequence for each in self._decks.values() for sequence in each.joining]
            encode = self._encode(joining)
        deck = self._decks[scheduler.turn]
        rows, stepped = deck.roster.rows, deck.stepped
        step = self._advance(deck) if rows else 0.0
        later = self._late and any(roster.rows for roster in self._decks)
        told = not later and self._flush()
        running = scheduler.running
        if joining or rows:
            deck.stepped = now = self._clock()
            scheduler.note_turn(deck.roster, now - started)
            source_tokens = sum([sequence.source_length for sequence in joining])
            host, interval = now - started - encode - step, now - (stepped or started)
            self._reports.append(StepReport(len(joining), source_tokens, rows, running, encode, step, host, interval))
            told = told or now - self._reported > REPORT_SECONDS
        busy = bool(running or self._inbox or scheduler.waiting)
        if not later and (told or not busy):
            self._report()
        return busy

    def _drain_inbox(self) -> None:
        while self._inbox:
            item = self._inbox.popleft()
            if item is None:
                self._stopping = True
            elif isinstance(item, str):
                self._abort(item, FinishReason.CANCELLED, UnavailableError("the request was cancelled"))
            else:
                self._scheduler.add(item)

    def _encode(self, joining: list[Sequence]) -> float:
        """Encode those who join and are not encoded yet, and give all of them rows; return the seconds it took."""
        started = self._clock()
        for sequence in joining:
            sequence.joined = started
        error = self._encode_sources([sequence for sequence in joining if sequence.source is None])
        for deck in self._decks.values():
            for group in deck.line_up():
                if (source := group[0].source) is None:
                    self._fail(deck, group, error)
                    continue
                try:
                    deck.take_up(group, source, self._clock())
                except MemoryError as full:
                    self._fail(deck, deck.roster.running, full)
                    break
        return self._clock() - started

    def _encode_sources(self, joining: list[Sequence]) -> Exception | None:
        """Encode in groups of similar length, with some of those who join next; return what put an end to it."""
        company = self._scheduler.company(joining)
        for group in similar_lengths(sorted(joining + company, key=lambda sequence: -sequence.source_length)):
            ids, lengths = padded(group, self._pad_id)
            try:
                encoded = self._model.encode(ids, lengths)
            except Exception as error:  # noqa: BLE001  whatever it is, no row of the batch was touched by it
                return error
            self._encoder_runs += 1
            for row, sequence in enumerate(group):
                sequence.source = EncodedSource(self._encoder_runs, row, encoded, lengths)
        return None

    def _advance(self, deck: Deck) -> float:
        """Run one step over the rows of a deck; return the seconds inside the model."""
        self._late = False
        try:
            self._late = deck.launch(self._clock)
        except Exception as error:  # noqa: BLE001  as below
            self._fail(deck, deck.roster.running, error)
            return deck.model_seconds
        if self._late:
            self._flush()
            self._report()
        try:
            outputs, leaving = deck.advance(self._clock)
        except Exception as error:  # noqa: BLE001  whatever it is, all rows of this step have lost their state
            self._fail(deck, deck.roster.running, error)
        else:
            if leaving:
                self._scheduler.leave(leaving)
                for sequence in leaving:
                    self._pace.note_end(sequence)
            self._outputs += outputs
        return deck.model_seconds

    def _abort(self, request_id: str, reason: FinishReason, error: ServiceError) -> None:
        """End one sequence before its end, wherever it is; unknown ids are ignored."""
        sequence = self._scheduler.withdraw(request_id)
        for deck in self._decks.values() if sequence is None else ():
            if (index := deck.find(request_id)) is not None:
                (sequence,) = deck.leave([index])
                self._scheduler.leave([sequence])
        if sequence is not None:
            self._outputs.append(sequence.abort(reason, error, self._clock()))

    def _fail(self, deck: Deck, failed: list[Sequence], error: Exception | None) -> None:
        """End running sequences by an error: the last ones of a deck, or all where no row can be trusted any more."""
        running = len(deck.roster.running)
        names = [sequence.request.request_id for sequence in failed]
        logger.error("a step failed; requests %s end with it", names, exc_info=error)
        told: ServiceError = EngineFailedError("decoding failed; the log has the cause under the request id")
        if isinstance(error, MemoryError):
            told = OutOfMemoryError("no memory for this batch; send it again, shorter or later", retry_after=1.0)
        now = self._clock()
        leaving = deck.leave(range(running - len(failed), running))
        self._scheduler.leave(leaving)
        self._outputs += [sequence.abort(FinishReason.ERROR, told, now) for sequence in leaving]

    def _fail_all(self, error: ServiceError) -> None:
        """End everything: what runs, what waits, and what is still in the inbox."""
        inbox = [item for item in self._inbox if isinstance(item, Sequence)]
        now = self._clock()
        dropped = [*self._scheduler.clear(), *inbox]
        self._outputs += [sequence.abort(FinishReason.ERROR, error, now) for sequence in dropped]
        self._flush()

    def _flush(self) -> bool:
        """Deliver the Outputs of this step, all at once; return whether there were any."""
        if not self._outputs:
            return False
        outputs, self._outputs = self._outputs, []
        self._deliver(outputs)
        return True

    def _report(self) -> None:
        """Tell of the steps that the observer does not know of: several at once cost less than one by one."""
        for report in self._reports:
            self._observer.observe_step(report)
            self._pace.note_step(report.rows, report.encode + report.step + report.host)
        self._reports.clear()
        self._reported = self._clock()
