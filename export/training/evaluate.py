"""Translation quality: chrF and BLEU by sacrebleu, with their signatures."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from export import checkpoint, decoding, vocabulary
from export.models.attention_rnn import AttentionRnn


class Quality(NamedTuple):
    """Corpus scores, 0 to 100, and the signatures that make them comparable."""

    chrf: float
    bleu: float
    chrf_signature: str
    bleu_signature: str


def score(hypotheses: Sequence[str], references: Sequence[str]) -> Quality:
    """Score translations against one reference each."""
    chrf, bleu = CHRF(), BLEU()
    chrf_score = chrf.corpus_score(list(hypotheses), [list(references)]).score
    bleu_score = bleu.corpus_score(list(hypotheses), [list(references)]).score
    return Quality(chrf_score, bleu_score, str(chrf.get_signature()), str(bleu.get_signature()))


def translate(model: AttentionRnn, sources: Sequence[str], folder: Path) -> list[str]:
    """Translate texts greedily with a checkpoint's model and vocabularies."""
    vocabularies = checkpoint.load_vocabularies(folder)
    sources_ids = [vocabularies.source_ids(source) for source in sources]
    outputs = decoding.greedy_sorted(model, sources_ids, vocabulary.START_ID, vocabulary.END_ID)
    return [vocabularies.target_text(output.target_ids) for output in outputs]
