"""Refusing calls unread while a server is full.

Between two steps of a model the processor's caches are cold, and whatever is done for one refused call takes several
times as long as it would for many in a row. So a call is told its refusal at once, and counted and logged with those
that come after it.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from service.errors import ServiceError
from service.logs import RequestLine
from service.rpc.access import Context
from service.rpc.border import REQUEST_ID, Border, Call
from service.rpc.door import Refusal
from service.rpc.status import DETAILS_KEY, status_code, status_details_again
from service.tracing import trace_headers

TOGETHER_SECONDS = 0.05
"""How long a refusal may wait to be counted and logged."""


class Refused(NamedTuple):
    """A call that was told its refusal, and is not accounted for."""

    request_id: str
    metadata: Iterable[Any]
    """The client's."""
    model: str
    client: str
    error: ServiceError
    arrived: float
    """On the border's clock, in seconds."""
    ended: float


class Doorkeeper:
    """Refuses the calls of one method while there is a refusal. It knows neither a request nor the model it means."""

    def __init__(
        self,
        border: Border,
        service: str,
        name: str,
        refusal: Callable[[], ServiceError | None],
        model: Callable[[], str],
    ) -> None:
        """Take where refusals come from, and the model that is meant, where it can be but one."""
        self._border = border
        self._counters = border.metrics.method(service, name)
        self._name = name
        self._refusal = refusal
        self._model = model
        self._refused: list[Refused] = []

    def __call__(self, context: Context) -> Refusal | None:
        """Refuse a call, or let it in: also where only its message tells what its client may do."""
        if (error := self._refusal()) is None:
            return None
        border, client = self._border, ""
        arrived = border.clock()
        if border.access is not None:
            if (known := border.access.admit_unread(context)) is None:
                return None
            client = known.name
        metadata = context.invocation_metadata() or ()
        request_id, model = border.request_id(metadata), self._model()
        details = status_details_again(error, request_id, model)
        if not self._refused:
            asyncio.get_running_loop().call_later(TOGETHER_SECONDS, self._account)
        self._refused.append(Refused(request_id, metadata, model, client, error, arrived, border.clock()))
        trailing = ((DETAILS_KEY, details), (REQUEST_ID, request_id))
        return Refusal(status_code(error).value[0], error.message, trailing)

    def _account(self) -> None:
        """Count and log those who were refused of late."""
        refused, self._refused = self._refused, []
        for one in refused:
            line = RequestLine(request_id=one.request_id, method=self._name, model=one.model, client=one.client)
            call = Call(one.request_id, one.arrived, None, line, trace_headers(one.metadata))
            self._counters.start()
            self._border.explain(one.error, call)
            self._border.finish(self._counters, call, one.error.code.name, one.ended)
