"""BERT's uncased WordPiece tokenizer with BLIP's two extra tokens, [DEC] and [ENC].

In: normalised text. Out: token ids from [CLS] to [SEP], unpadded; and back to text. The vocabulary is the bundled one
of bert-base-uncased, or the vocab.txt that a checkpoint folder brings. Nothing is downloaded.

It is built from the parts in `tokenizers` rather than by transformers' class: in transformers 5 the constructor that
takes a vocabulary file reads none of it and maps every word to [UNK].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tokenizers
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from blipbench.errors import CheckpointError, UsageError
from blipbench.models.tensor_files import require_regular

BUNDLED_VOCAB = Path(__file__).parent / "vocab" / "bert-base-uncased.txt"

_BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_BLIP_SPECIAL = ("[DEC]", "[ENC]")

# English contractions and punctuation that WordPiece set apart, in the order transformers' decoder undoes them.
_CLEAN_UP = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)


@dataclass(frozen=True)
class Tokenizer:
    """Texts to ids and back. `vocab_size` counts [DEC] and [ENC] and equals a checkpoint's embedding rows."""

    backend: tokenizers.Tokenizer
    vocab_size: int
    pad_id: int
    unk_id: int
    cls_id: int
    sep_id: int
    dec_id: int
    enc_id: int

    def encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Ids of each text, [CLS] first and [SEP] last, at most `max_length` of them; no padding.

        A special token written out in a text ("[SEP]") becomes that token, as in the reference.
        """
        if max_length < 2:
            raise UsageError(f"max_length: {max_length} leaves no room for [CLS] and [SEP]; give 2 or more")
        # One by one: the batch form starts a thread pool, and a process that has one must not fork data workers.
        words = (self.backend.encode(text, add_special_tokens=False).ids for text in texts)
        return [[self.cls_id, *ids[: max_length - 2], self.sep_id] for ids in words]

    def unknown_share(self, input_ids: Sequence[Sequence[int]]) -> float:
        """The share of [UNK] among the tokens, [CLS] and [SEP] not counted; 0 if there are none."""
        total = sum(max(0, len(ids) - 2) for ids in input_ids)
        return sum(ids.count(self.unk_id) for ids in input_ids) / total if total else 0.0

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """The text of `ids`, word pieces joined and the spaces around punctuation and contractions cleaned up."""
        special = self.special_ids if skip_special else frozenset()
        tokens = [self.backend.id_to_token(i) or "[UNK]" for i in ids if i not in special]
        text = " ".join(tokens).replace(" ##", "").strip()
        for apart, joined in _CLEAN_UP:
            text = text.replace(apart, joined)
        return text

    @property
    def special_ids(self) -> frozenset[int]:
        """The ids that are not text."""
        return frozenset(self.backend.get_added_tokens_decoder())


def load_tokenizer(vocab: Path | None = None) -> Tokenizer:
    """The tokenizer over a vocab.txt (one entry a line; [DEC] and [ENC] follow it), by default the bundled one.

    Raises CheckpointError when the file is no lower-case WordPiece vocabulary.
    """
    path = vocab or BUNDLED_VOCAB
    ids = _read_vocabulary(path)
    for token in _BLIP_SPECIAL:
        ids.setdefault(token, len(ids))
    backend = tokenizers.Tokenizer(WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    backend.normalizer = BertNormalizer(lowercase=True)
    backend.pre_tokenizer = BertPreTokenizer()
    backend.add_special_tokens([token for token in (*_BERT_SPECIAL, *_BLIP_SPECIAL) if token in ids])
    known = next((word for word in ids if word.isascii() and word.isalpha() and word.islower()), "a")
    if backend.encode(known, add_special_tokens=False).ids != [ids.get(known)]:
        raise CheckpointError(
            f"{path}: the tokenizer built from it does not find {known!r}; is it a WordPiece vocab.txt?"
        )
    special = (ids[token] for token in (*_BERT_SPECIAL[:4], *_BLIP_SPECIAL))
    return Tokenizer(backend, len(ids), *special)


def _read_vocabulary(path: Path) -> dict[str, int]:
    """Token to id, the id being the line's number from 0."""
    if path.exists():
        require_regular(path)
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: the vocabulary cannot be read ({error})") from error
    ids = {token: number for number, token in enumerate(lines)}
    if len(ids) != len(lines):
        raise CheckpointError(f"{path}: {len(lines) - len(ids)} entries are there twice; is it a WordPiece vocab.txt?")
    missing = [token for token in _BERT_SPECIAL[:4] if token not in ids]
    if missing:
        raise CheckpointError(f"{path}: the vocabulary lacks {', '.join(missing)}; is it a WordPiece vocab.txt?")
    return ids
