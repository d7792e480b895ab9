"""The tokenizer against the reference's ids, for the bundled vocabulary and for one of a checkpoint folder."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from blipbench.errors import CheckpointError, UsageError
from blipbench.models.tokenizer import BUNDLED_VOCAB, load_tokenizer

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = json.loads((GOLDEN / "tokenizer.json").read_text())


@pytest.mark.parametrize(("vocabulary", "path"), [("bert_base_uncased", None), ("tiny", GOLDEN / "vocab.txt")])
def test_ids_are_the_references(vocabulary: str, path: Path | None) -> None:
    tokenizer = load_tokenizer(path)
    cases = CASES["encode_max_35"]
    assert tokenizer.encode([case["text"] for case in cases], max_length=35) == [case[vocabulary] for case in cases]
    assert [tokenizer.dec_id, tokenizer.enc_id] == CASES["bos_enc"][vocabulary]


def test_decoding_cleans_up_spaces_as_the_reference_does() -> None:
    tokenizer = load_tokenizer()
    for case in CASES["decode"]:
        assert tokenizer.decode(case["bert_base_uncased_ids"]) == case["decoded_without_special"]


def test_decoding_can_keep_the_special_tokens() -> None:
    tokenizer = load_tokenizer()
    ids = [tokenizer.dec_id, *tokenizer.encode(["a horse"], 35)[0][1:]]
    assert tokenizer.decode(ids, skip_special=False) == "[DEC] a horse [SEP]"


def test_the_retrieval_texts_of_the_golden_run_give_its_ids() -> None:
    tokenizer = load_tokenizer(GOLDEN / "vocab.txt")
    texts = json.loads((GOLDEN / "retrieval_k6.json").read_text())["texts"]
    tensors = load_file(GOLDEN / "retrieval_k6.safetensors")
    expected = [
        [int(i) for i in ids[mask.bool()]]
        for ids, mask in zip(tensors["input_ids"], tensors["attention_mask"], strict=True)
    ]
    assert tokenizer.encode(texts, max_length=35) == expected


def test_the_bundled_vocabulary_has_the_official_sizes() -> None:
    tokenizer = load_tokenizer()
    assert tokenizer.vocab_size == 30524
    assert (tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id) == (0, 101, 102)


def test_a_vocabulary_that_names_dec_and_enc_itself_keeps_their_places(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_text("[PAD]\n[DEC]\n[ENC]\n[UNK]\n[CLS]\n[SEP]\nhorse\n")
    tokenizer = load_tokenizer(path)
    assert (tokenizer.dec_id, tokenizer.enc_id, tokenizer.vocab_size) == (1, 2, 7)
    assert tokenizer.encode(["horse cow"], 35) == [[4, 6, 3, 5]]


def test_max_length_must_hold_cls_and_sep() -> None:
    with pytest.raises(UsageError, match="max_length: 1 leaves no room"):
        load_tokenizer().encode(["a"], max_length=1)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("a\nb\n", r"lacks \[PAD\], \[UNK\], \[CLS\], \[SEP\]"),
        (BUNDLED_VOCAB.read_text() + "horse\n", "1 entries are there twice"),
        ("[PAD]\n[UNK]\n[CLS]\n[SEP]\n▁horse\n", "does not find 'a'"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_refused(tmp_path: Path, content: str, complaint: str) -> None:
    path = tmp_path / "vocab.txt"
    path.write_text(content)
    with pytest.raises(CheckpointError, match=f"vocab.txt: .*{complaint}"):
        load_tokenizer(path)


def test_an_absent_vocabulary_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none.txt: the vocabulary cannot be read"):
        load_tokenizer(tmp_path / "none.txt")
