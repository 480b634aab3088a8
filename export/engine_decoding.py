"""Beam search of a bundle through the engine that serves it."""

from collections.abc import Sequence

from export.decoding import Beam, BeamOutput
from service.engine.engine import Engine
from service.engine.scheduler import Limits
from service.engine.session import OnnxModel
from service.request import DecodingParams, LengthPenalty, Output, Request, StepReport


class _Granted:
    """A permit that nobody takes back."""

    returned = False


class _Unobserved:
    """Takes no note of steps."""

    def observe_step(self, report: StepReport) -> None:
        """Do nothing."""

    def observe_outputs(self, outputs: list[Output]) -> None:
        """Do nothing."""


def search(model: OnnxModel, sources: Sequence[Sequence[int]], beam: Beam) -> list[BeamOutput]:
    """Decode any number of sentences; results in the order of the sources."""
    delivered: list[Output] = []
    failures: list[BaseException] = []
    engine = Engine(model, Limits(), delivered.extend, _Unobserved(), failures.append)
    penalty, limits = LengthPenalty(beam.length_penalty), model.manifest.decoding
    for number, source in enumerate(sources):
        longest = limits.target_limit(len(source))
        params = DecodingParams(longest, beam_size=beam.size, length_penalty=penalty)
        engine.submit(Request(str(number), tuple(source), params), _Granted())
    while engine.step():
        pass
    ended = {int(output.request_id): output for output in delivered if output.finish_reason}
    for output in ended.values():
        if output.error is not None:
            raise output.error
    best = [ended[number].hypotheses[0] for number in range(len(sources))]
    return [BeamOutput(list(one.token_ids), one.score) for one in best]
