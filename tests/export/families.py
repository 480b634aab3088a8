"""A random checkpoint of every Transformer architecture, with a tokenizer of its own kind, as its library saves it."""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import sentencepiece as spm
import tokenizers
import torch
import transformers
from tokenizers import models, pre_tokenizers, trainers
from transformers import PreTrainedModel

from export.original import Languages
from export.training import templates
from export.transformer import marian_vocabulary


class Words(NamedTuple):
    """What tokenizers are made of: texts of both languages, and about how many pieces."""

    texts: list[str]
    size: int


FEW = Words([text for pair in list(templates.sentences())[::20] for text in pair], 300)


class Writer(Protocol):
    """Writes a random checkpoint with a tokenizer."""

    def __call__(self, folder: Path, words: Words = ...) -> None:
        """Write it into an empty folder."""


SIZES: dict[str, Any] = {
    "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 20, "max_position_embeddings": 64,
    "init_std": 0.3, "dropout": 0.0,
}  # fmt: skip
FAIRSEQ: dict[str, Any] = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}


def marian(folder: Path, words: Words = FEW) -> None:
    """Write a MarianMT checkpoint."""
    marian_vocabulary.train(words.texts, words.size + 100, folder)
    ids = marian_vocabulary.load(folder)
    pad = ids.pad_id
    config = transformers.MarianConfig(
        **SIZES, vocab_size=len(ids.ids), decoder_vocab_size=len(ids.ids), pad_token_id=pad, decoder_start_token_id=pad,
        eos_token_id=0, forced_eos_token_id=0, scale_embedding=True, activation_function="swish",
    )  # fmt: skip
    _save(transformers.MarianMTModel(config), folder, bad_words_ids=[[pad]], num_beams=4, max_length=512)


def marian_separate(folder: Path, words: Words = FEW) -> None:
    """Write a MarianMT checkpoint whose languages have vocabularies and embeddings of their own."""
    marian_vocabulary.train(words.texts[::2], 400, folder)
    marian_vocabulary.train(words.texts, 400, folder / "target")
    (folder / "target" / "target.spm").replace(folder / "target.spm")
    (folder / "target" / "vocab.json").replace(folder / "target_vocab.json")
    shutil.rmtree(folder / "target")
    described = {"tokenizer_class": "MarianTokenizer", "separate_vocabs": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(described), encoding="utf-8")
    config = transformers.MarianConfig(
        **SIZES, vocab_size=400, decoder_vocab_size=400, pad_token_id=399, decoder_start_token_id=399, eos_token_id=0,
        share_encoder_decoder_embeddings=False, scale_embedding=True, activation_function="swish",
    )  # fmt: skip
    _save(transformers.MarianMTModel(config), folder, bad_words_ids=[[399]])


def m2m_100(folder: Path, words: Words = FEW) -> None:
    """Write an M2M100 checkpoint: SentencePiece, numbered by vocab.json, and a hundred languages behind."""
    content, pieces = _sentence_pieces(words)
    (folder / "sentencepiece.bpe.model").write_bytes(content)
    numbers = {piece: number for number, piece in enumerate(["<s>", "<pad>", "</s>", "<unk>", *reversed(pieces)])}
    (folder / "vocab.json").write_text(json.dumps(numbers), encoding="utf-8")
    library = transformers.M2M100Tokenizer(folder / "vocab.json", folder / "sentencepiece.bpe.model")
    library.save_pretrained(folder)
    config = transformers.M2M100Config(**SIZES, **FAIRSEQ, vocab_size=len(numbers) + 108, scale_embedding=True)
    _save(transformers.M2M100ForConditionalGeneration(config), folder, num_beams=5, max_length=200)


def nllb(folder: Path, words: Words = FEW) -> None:
    """Write an NLLB checkpoint: M2M100's network, a tokenizer.json with two hundred languages."""
    learned = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))  # noqa: S106 # A piece.
    learned.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=words.size, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], show_progress=False
    )
    learned.train_from_iterator(words.texts, trainer)
    described = json.loads(learned.to_str())["model"]
    merges = [tuple(merge) for merge in described["merges"]]
    library = transformers.NllbTokenizer(described["vocab"], merges)  # type: ignore[arg-type] # Pairs are read too.
    library.save_pretrained(folder)
    config = transformers.M2M100Config(**SIZES, **FAIRSEQ, vocab_size=len(library), scale_embedding=True)
    _save(transformers.M2M100ForConditionalGeneration(config), folder, max_length=200, suppress_tokens=[40, 41])


def mbart(folder: Path, words: Words = FEW) -> None:
    """Write an mBART checkpoint, of the first version: the decoder starts with the language."""
    _, pieces = _sentence_pieces(words)
    languages = ["ko_KR", "en_XX"]
    vocabulary = [(piece, 0.0) for piece in ("<s>", "<pad>", "</s>", "<unk>")]
    vocabulary += [(piece, -1.0 - 0.01 * rank) for rank, piece in enumerate(pieces)]
    library = transformers.MBartTokenizer([*vocabulary, *((language, 0.0) for language in languages), ("<mask>", 0.0)])
    library.save_pretrained(folder)
    config = transformers.MBartConfig(**SIZES, **FAIRSEQ, vocab_size=len(library), scale_embedding=True)
    _save(transformers.MBartForConditionalGeneration(config), folder, max_length=200)


def bart(folder: Path, words: Words = FEW) -> None:
    """Write a BART checkpoint: bytes as letters, a start symbol before the source and as the first word."""
    learned = tokenizers.ByteLevelBPETokenizer()
    learned.train_from_iterator(
        words.texts, words.size + 100, show_progress=False, special_tokens=["<s>", "<pad>", "</s>", "<unk>"]
    )
    described = json.loads(learned.to_str())["model"]
    merges = [tuple(merge) for merge in described["merges"]]
    library = transformers.BartTokenizer(described["vocab"], merges)  # type: ignore[arg-type] # Pairs are read too.
    library.save_pretrained(folder)
    config = transformers.BartConfig(**SIZES, **FAIRSEQ, vocab_size=len(library))
    _save(transformers.BartForConditionalGeneration(config), folder, forced_bos_token_id=0, no_repeat_ngram_size=3)


def t5(folder: Path, words: Words = FEW) -> None:
    """Write a T5 checkpoint with gates: distances instead of positions, sizes of heads that do not add up."""
    _, pieces = _sentence_pieces(words)
    vocabulary = [(piece, 0.0) for piece in ("<pad>", "</s>", "<unk>")]
    vocabulary += [(piece, -1.0 - 0.01 * rank) for rank, piece in enumerate(pieces)]
    library = transformers.T5Tokenizer(vocabulary, extra_ids=5)
    library.save_pretrained(folder)
    config = transformers.T5Config(
        vocab_size=len(library), d_model=16, d_kv=6, d_ff=24, num_layers=2, num_heads=4,
        feed_forward_proj="gated-gelu", relative_attention_num_buckets=8, relative_attention_max_distance=12,
        pad_token_id=0, eos_token_id=1, dropout_rate=0.0,
    )  # fmt: skip
    _save(transformers.T5ForConditionalGeneration(config), folder, decoder_start_token_id=0)


FAMILIES: dict[str, Writer] = {
    "marian": marian, "m2m_100": m2m_100, "nllb": nllb, "mbart": mbart, "bart": bart, "t5": t5
}  # fmt: skip
LANGUAGES = {"nllb": Languages("kor_Hang", "eng_Latn"), "t5": Languages("ko", "en", "translate Korean to English:")}


def languages_of(family: str) -> Languages:
    """Return what a family's checkpoint is asked for."""
    return LANGUAGES.get(family, Languages("ko", "en"))


def _sentence_pieces(words: Words) -> tuple[bytes, list[str]]:
    """Train a model; return it and its pieces without the special ones."""
    written = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(words.texts), model_writer=written, vocab_size=words.size, model_type="bpe",
        minloglevel=2,
        bos_id=0, pad_id=1, eos_id=2, unk_id=3, num_threads=1,
    )  # fmt: skip
    model = spm.SentencePieceProcessor()
    model.LoadFromSerializedProto(written.getvalue())
    return written.getvalue(), [model.IdToPiece(own) for own in range(4, len(model))]


def _save(model: PreTrainedModel, folder: Path, **generation: Any) -> None:
    """Draw every vector too, norms and biases, so that no term goes untested; then write the checkpoint."""
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in _vectors(model):
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.generation_config.update(**generation)
    model.save_pretrained(folder)


def _vectors(model: PreTrainedModel) -> Iterator[torch.Tensor]:
    return (parameter for parameter in model.parameters() if parameter.ndim == 1)
