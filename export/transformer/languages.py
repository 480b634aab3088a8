"""Tokenizer files of a bundle, and the tokens around a text: end symbols, and languages where a model knows several."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from export.original import Languages
from export.transformer.hugging_face import Checkpoint
from service.bundle import Tokenizer

SOURCE_FILE, TARGET_FILE, IDS_FILE, TOKENIZER_FILE = "source.spm", "target.spm", "vocab.json", "tokenizer.json"
TARGET_IDS_FILE = "target_vocab.json"
SAMPLE = "a"
LibraryTokenizer = Any
"""A tokenizer of the library, each class of which has attributes of its own."""


class Prepared(NamedTuple):
    """The manifest's part, the files by name, and the word that the first step is made to choose."""

    tokenizer: Tokenizer
    contents: dict[str, bytes]
    first_id: int | None
    library: LibraryTokenizer
    """The library's tokenizer: what the files must agree with."""

    @property
    def words(self) -> int:
        """Source ids from here on have no piece."""
        return self._pieces(self.tokenizer.ids_file)

    @property
    def target_words(self) -> int:
        """Target ids from here on have no piece."""
        return self._pieces(self.tokenizer.target_ids_file or self.tokenizer.ids_file)

    def source_ids(self, text: str) -> list[int]:
        """Encode a source text with all that belongs around it."""
        ids = _ids(self.library, text, special=False)
        return [*self.tokenizer.source_prefix, *ids, *self.tokenizer.source_suffix]

    def target_ids(self, text: str) -> list[int]:
        """Encode a target text, without start and end."""
        ids: list[int] = self.library(text_target=text, add_special_tokens=False).input_ids
        return ids

    def target_text(self, ids: Sequence[int]) -> str:
        """Decode target ids without start and end symbol."""
        text: str = self.library.decode(list(ids), skip_special_tokens=True)
        return text

    def _pieces(self, file: str | None) -> int:
        known: dict[str, int] = self.library.get_vocab() if file is None else json.loads(self.contents[file])
        return max(known.values()) + 1


def prepare(checkpoint: Checkpoint, languages: Languages) -> Prepared:
    """Say how this checkpoint's texts become ids from one language to the other; raise ValueError where it cannot."""
    tokenizer: LibraryTokenizer = checkpoint.tokenizer
    config: Any = checkpoint.model.generation_config
    start_id, first_id = config.decoder_start_token_id, config.forced_bos_token_id
    target_in_source: list[int] = []
    if _kind(tokenizer) == "MarianTokenizer":
        target_in_source = _marian_target(tokenizer, languages.target)
    elif _language_tokens(tokenizer):
        tokenizer.src_lang = _language(tokenizer, languages.source)
        tokenizer.tgt_lang = _language(tokenizer, languages.target)
        language = tokenizer.convert_tokens_to_ids(_token(tokenizer, languages.target))
        # mBART's first version starts with the language; all others are made to choose it.
        start_id, first_id = (language, None) if _kind(tokenizer) == "MBartTokenizer" else (start_id, language)
    prefix, suffix = _around(tokenizer)
    prefix = [*target_in_source, *prefix, *_ids(tokenizer, languages.task, special=False)]
    files, contents, kind = _files(tokenizer)
    source, target, ids = files
    special = {*tokenizer.all_special_ids, *target_in_source, start_id, first_id} - {None}
    made = Tokenizer(
        kind=kind, source_file=source, target_file=target, ids_file=ids,
        target_ids_file=TARGET_IDS_FILE if TARGET_IDS_FILE in contents else None, pad_id=tokenizer.pad_token_id,
        unknown_id=tokenizer.unk_token_id, start_id=start_id, end_id=tokenizer.eos_token_id,
        source_prefix=tuple(prefix), source_suffix=tuple(suffix), special_ids=tuple(sorted(special)),
    )  # fmt: skip
    return Prepared(made, contents, first_id, tokenizer)


def _kind(tokenizer: PreTrainedTokenizerBase) -> str:
    return type(tokenizer).__name__.removesuffix("Fast")


def _ids(tokenizer: PreTrainedTokenizerBase, text: str, *, special: bool) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=special).input_ids
    return ids


def _around(tokenizer: PreTrainedTokenizerBase) -> tuple[Sequence[int], Sequence[int]]:
    """Return what the tokenizer puts in front of a text and behind it."""
    bare, whole = _ids(tokenizer, SAMPLE, special=False), _ids(tokenizer, SAMPLE, special=True)
    for at in range(len(whole) - len(bare) + 1):
        if whole[at : at + len(bare)] == bare:
            return whole[:at], whole[at + len(bare) :]
    raise ValueError(f"the tokenizer makes {whole} of {SAMPLE!r}, which is more than {bare} and something around it")


def _language_tokens(tokenizer: LibraryTokenizer) -> dict[str, str]:
    """Return the tokens of the languages that a model of many knows, by the codes that its tokenizer takes."""
    if not hasattr(tokenizer, "src_lang"):
        return {}
    named: dict[str, str] | None = getattr(tokenizer, "lang_code_to_token", None)
    return named or {token: token for token in tokenizer.all_special_tokens if not token.startswith("<")}


def _language(tokenizer: LibraryTokenizer, code: str) -> str:
    """Find the tokenizer's name of a language: the code itself, or the only one that begins with it: en_XX."""
    known = _language_tokens(tokenizer)
    found = [name for name in known if name == code] or [name for name in known if name.startswith(f"{code}_")]
    if len(found) != 1:
        raise ValueError(f"the tokenizer has no language {code!r}, or several; name one of its own with "
                         f"--source-token or --target-token: {', '.join(sorted(known))}")  # fmt: skip
    return found[0]


def _token(tokenizer: LibraryTokenizer, code: str) -> str:
    return _language_tokens(tokenizer)[_language(tokenizer, code)]


def _marian_target(tokenizer: LibraryTokenizer, code: str) -> list[int]:
    """Return the token of the target language, which a Marian model of several reads in front of the source."""
    known: list[str] = tokenizer.supported_language_codes
    if not known:
        return []
    token = code if code in known else f">>{code}<<"
    if token not in known:
        raise ValueError(f"this model translates into several languages and has no token {token}; name one with "
                         f"--target-token: {', '.join(sorted(known))}")  # fmt: skip
    return [tokenizer.convert_tokens_to_ids(token)]


def _files(tokenizer: LibraryTokenizer) -> tuple[tuple[str, str, str | None], dict[str, bytes], Any]:
    """Return the names of source, target and ids file, their contents, and the kind."""
    if _kind(tokenizer) == "MarianTokenizer":
        source, target = (Path(path).read_bytes() for path in tokenizer.spm_files)
        contents = {SOURCE_FILE: source, TARGET_FILE: target, IDS_FILE: _json(tokenizer.encoder)}
        if tokenizer.separate_vocabs:
            _check_separate(tokenizer)
            contents[TARGET_IDS_FILE] = _json(tokenizer.target_encoder)
        return (SOURCE_FILE, TARGET_FILE, IDS_FILE), contents, "sentencepiece"
    if _kind(tokenizer) == "M2M100Tokenizer":
        ids = {**tokenizer.encoder, **tokenizer.lang_token_to_id}
        contents = {SOURCE_FILE: Path(tokenizer.spm_file).read_bytes(), IDS_FILE: _json(ids)}
        return (SOURCE_FILE, SOURCE_FILE, IDS_FILE), contents, "sentencepiece"
    if not tokenizer.is_fast:
        raise ValueError(f"{_kind(tokenizer)} is a tokenizer in Python; this version exports those of Marian and "
                         "M2M100, and those that have a tokenizer.json")  # fmt: skip
    whole = json.loads(tokenizer.backend_tokenizer.to_str())
    whole |= {"truncation": None, "padding": None}
    return (TOKENIZER_FILE, TOKENIZER_FILE, None), {TOKENIZER_FILE: _json(whole)}, "tokenizers"


def _check_separate(tokenizer: LibraryTokenizer) -> None:
    """Raise ValueError where two vocabularies number the symbols differently that a bundle has one number for."""
    for symbol in (tokenizer.eos_token, tokenizer.unk_token):
        numbers = tokenizer.encoder[symbol], tokenizer.target_encoder.get(symbol)
        if numbers[0] != numbers[1]:
            raise ValueError(f"source and target have vocabularies of their own that number {symbol} differently "
                             f"({numbers[0]} and {numbers[1]}); this version exports those that agree on it"
                             )  # fmt: skip


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode()
