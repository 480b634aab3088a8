"""What a model does before requests get to it: the translation that its export recorded, and batches like theirs."""

import itertools
from collections.abc import Iterable, Sequence

from service.bundle import Manifest, SelfTest
from service.engine.device.batch import AnyModel
from service.engine.engine import Engine
from service.engine.scheduler import Limits
from service.errors import BundleError
from service.request import DecodingParams, Output, Request, StepReport
from service.tokenizer import Tokenizer

WARM_WIDTHS = (8, 32)
"""Source tokens of texts as they come: of a label, of a sentence."""
WARM_STEPS = 3


class _Granted:
    """A permit that nobody takes back."""

    returned = False


class _Unobserved:
    """Takes no note of steps."""

    def observe_step(self, report: StepReport) -> None:
        """Do nothing."""


def prove(model: AnyModel, tokenizer: Tokenizer, recorded: SelfTest) -> None:
    """Translate what the export translated; raise BundleError where the result is another.

    By the engine that will serve it, so a tokenizer, a graph, a device or a build that computes something else is found
    here, and not by those who read the translations.
    """
    source = tokenizer.encode(recorded.source).ids
    if source != recorded.source_ids:
        raise _differs(f"tokenizing {recorded.source!r}", source, recorded.source_ids)
    enough = len(recorded.target_ids) + 1  # whatever the limits of a manifest, a longer one is another
    params = DecodingParams(min(enough, model.manifest.decoding.target_limit(len(source))))
    (output,) = _decode(model, Limits(max_rows=1), [Request("self-test", source, params)])
    found = output.hypotheses[0].token_ids
    if found != recorded.target_ids:
        raise _differs(f"translating {recorded.source!r}", found, recorded.target_ids)
    if (text := tokenizer.decode(found)) != recorded.translation:
        raise _differs(f"the text of {found}", text, recorded.translation)


def warm_up(model: AnyModel, max_rows: int) -> None:
    """Decode batches of the sizes and lengths that traffic will bring, so that it finds memory and kernels ready."""
    decoding = model.manifest.decoding
    widths = sorted({min(width, decoding.max_source_tokens) for width in WARM_WIDTHS})
    params = DecodingParams(min(WARM_STEPS, decoding.max_target_tokens))
    for width, rows in itertools.product(widths, _sizes(max_rows)):
        source = _source(model.manifest, width)
        _decode(model, Limits(max_rows=rows), [Request(str(row), source, params) for row in range(rows)])


def _decode(model: AnyModel, limits: Limits, requests: Iterable[Request]) -> Sequence[Output]:
    """Decode all requests together, on this thread; return the last Output of each. Raises what ended one."""
    outputs: list[Output] = []
    failures: list[BaseException] = []
    engine = Engine(model, limits, outputs.extend, _Unobserved(), failures.append)
    for request in requests:
        engine.submit(request, _Granted())
    while engine.step():
        pass
    for output in outputs:
        if output.error is not None:
            raise output.error
    return outputs


def _sizes(max_rows: int) -> list[int]:
    """Return batch sizes up to the largest: 1, 8, 64 and so on."""
    return sorted({*itertools.takewhile(lambda rows: rows < max_rows, (8**power for power in range(5))), max_rows})


def _source(manifest: Manifest, width: int) -> tuple[int, ...]:
    """Return so many source ids, none of which means anything."""
    special = manifest.tokenizer
    return (special.unknown_id,) * (width - 1) + (special.end_id,)


def _differs(what: str, found: object, expected: object) -> BundleError:
    return BundleError(
        f"self-test: {what} gives {found}, its export recorded {expected}; restore the bundle, or export it again here"
    )
