"""Two programs that decode the same checkpoint in process: the engine of this project, and CTranslate2.

Both read source ids (or their pieces) and return target pieces, so that what tokenizing costs is in neither.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from service import bundle
from service.engine.session import OnnxModel
from service.request import DecodingParams, LengthPenalty
from service.tokenizer import Tokenizer
from tests.benchmark.load import Run, Translated
from tests.benchmark.stepping import together


class Order(NamedTuple):
    """How to decode the sentences: so many at once, with a beam of this width, up to so many target tokens."""

    batch: int
    beam_size: int
    max_tokens: int
    min_tokens: int = 0
    sentences: int | None = None
    """The first so many; None: all."""


class Here:
    """The engine of a bundle in this process, stepped by hand, with continuous batching."""

    def __init__(self, folder: Path, texts: Sequence[str]) -> None:
        loaded = bundle.load(folder)
        self._model = OnnxModel.load(loaded, "cpu")
        self._tokenizer = Tokenizer.from_bundle(loaded)
        self._sources = [self._tokenizer.encode(text).ids for text in texts]

    def __call__(self, order: Order) -> Run:
        """Decode all sentences, longest first: whoever ends makes room for the next."""
        params = DecodingParams(
            max_target_tokens=order.max_tokens, min_target_tokens=order.min_tokens, beam_size=order.beam_size,
            length_penalty=LengthPenalty(0.0),
        )  # fmt: skip
        started = time.perf_counter()
        chosen = self._sources[: order.sentences]
        by_length = sorted(range(len(chosen)), key=lambda index: -len(chosen[index]))
        sources = [chosen[index] for index in by_length]
        outputs = together(self._model, sources, order.batch * order.beam_size, params)
        seconds = time.perf_counter() - started
        found = {index: output.hypotheses[0].token_ids for index, output in zip(by_length, outputs, strict=True)}
        ids = [found[index] for index in range(len(found))]
        pieces = [self._tokenizer.target_pieces(one) for one in ids]
        return Run(
            [Translated(self._tokenizer.decode(one), part) for one, part in zip(ids, pieces, strict=True)], seconds
        )


class Peer:
    """CTranslate2 on one thread; it sorts all sentences by length and cuts them into batches."""

    def __init__(self, folder: Path, precision: str, tokenizer_of: Path, texts: Sequence[str]) -> None:
        from tests.benchmark.ctranslate2_model import open_translator  # noqa: PLC0415  optional

        self._translator = open_translator(folder, precision)
        self._tokenizer = Tokenizer.from_bundle(bundle.load(tokenizer_of))
        self._sources = [self._tokenizer.encode(text).pieces for text in texts]

    def __call__(self, order: Order) -> Run:
        """Decode all sentences in batches of similar length."""
        started = time.perf_counter()
        found = self._translator.translate_batch(
            self._sources[: order.sentences], beam_size=order.beam_size, max_batch_size=order.batch,
            batch_type="examples", length_penalty=0.0, max_decoding_length=order.max_tokens,
            min_decoding_length=order.min_tokens,
        )  # fmt: skip
        seconds = time.perf_counter() - started
        pieces = [one.hypotheses[0] for one in found]
        texts = [self._tokenizer.decode([self._tokenizer.target_id(piece) or 0 for piece in part]) for part in pieces]
        return Run([Translated(text, part) for text, part in zip(texts, pieces, strict=True)], seconds)
