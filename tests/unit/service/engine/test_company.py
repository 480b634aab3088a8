"""Some who wait are encoded with those who join."""

from service.engine.scheduler import Limits
from service.engine.session import Encoded
from service.request import FinishReason, Int64
from tests.fakes import ReversingModel, Stage


def test_some_who_wait_are_encoded_with_those_who_join() -> None:
    """Together they are no more than rows, and within the bound of tokens; each is encoded once."""
    model = ReversingModel()
    stage = Stage(model, Limits(max_rows=3, company_tokens=24))
    lengths = {"long": 20, "other": 20, "short": 1, "next": 8, "then": 8, "soon": 8, "late": 9}
    sources = {name: tuple(range(10, 10 + length)) for name, length in lengths.items()}
    for name, source in sources.items():
        stage.submit(name, source)
    stage.finish()
    assert [3, 3, 1] == model.encoded_batches
    assert {name: source[::-1] for name, source in sources.items()} == {name: stage.text(name) for name in sources}


def test_one_that_is_cancelled_after_its_encoding_leaves_the_others_as_they_are() -> None:
    """Of a run of the encoder, whoever still waits gets its own row of what that left."""
    model = ReversingModel()
    stage = Stage(model, Limits(max_rows=3))
    for name, source in {"long": (5,) * 20, "other": (6,) * 20, "short": (7,), "a": (5, 6), "b": (7, 8)}.items():
        stage.submit(name, source)
    stage.submit("c", (9, 10, 11))
    while len(model.encoded_batches) < 2:
        stage.engine.step()
    stage.engine.cancel("b")
    stage.finish()
    assert [3, 3] == model.encoded_batches
    assert ((6, 5), (11, 10, 9)) == (stage.text("a"), stage.text("c"))
    assert FinishReason.CANCELLED is stage.recorder.last("b").finish_reason


def test_a_run_of_the_encoder_that_fails_fails_those_who_join_and_nobody_else() -> None:
    """Who was encoded before joins all the same; who only waits is tried again when it joins."""
    model = FailingOnce()
    stage = Stage(model, Limits(max_rows=3))
    for name, length in {"long": 20, "other": 20, "short": 1, "joins": 2, "waits": 3}.items():
        stage.submit(name, tuple(range(10, 10 + length)))
    stage.finish()
    assert FinishReason.ERROR is stage.recorder.last("joins").finish_reason
    assert (12, 11, 10) == stage.text("waits")
    assert 20 == len(stage.text("long")) == len(stage.text("other"))


class FailingOnce(ReversingModel):
    """Fails at its second run of the encoder."""

    def encode(self, source_ids: Int64, source_lengths: Int64) -> Encoded:
        """Encode, or fail."""
        if len(self.encoded_batches) == 1:
            self.encoded_batches.append(0)
            raise RuntimeError("no such operator")
        return super().encode(source_ids, source_lengths)
