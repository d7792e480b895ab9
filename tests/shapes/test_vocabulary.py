"""The vocabulary for tiny models: small, and enough for every text of the shapes world."""

from pathlib import Path

import pytest

from blipbench.config.tasks import load_task
from blipbench.data.text import normalise_question
from blipbench.models.tokenizer import Tokenizer, load_tokenizer
from blipbench.shapes import shapes_vocabulary
from blipbench.shapes.annotations import split_files
from blipbench.shapes.sampling import SPLITS

CAPTION_TASKS = ("caption_shapes", "nocaps_shapes")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path: Path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    path.write_text("".join(f"{entry}\n" for entry in shapes_vocabulary()))
    return load_tokenizer(path)


@pytest.fixture(scope="module")
def texts() -> dict[str, set[str]]:
    """Captions, questions, answers and sentences of a few hundred images of every split, by file."""
    found: dict[str, set[str]] = {}
    for split in SPLITS:
        for name, content in split_files(split, 300, 5).items():
            rows = content["annotations"] if isinstance(content, dict) else content
            for row in rows:
                for field in ("caption", "sentence", "question", "answer"):
                    value = row.get(field, [])
                    found.setdefault(name, set()).update([value] if isinstance(value, str) else value)
    return found


def test_it_is_small_and_has_no_entry_twice() -> None:
    vocabulary = shapes_vocabulary()
    assert len(set(vocabulary)) == len(vocabulary) < 700
    assert vocabulary[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def test_no_text_of_the_world_has_an_unknown_word(tokenizer: Tokenizer, texts: dict[str, set[str]]) -> None:
    unknown = tokenizer.backend.token_to_id("[UNK]")
    for text in (normalise_question(text, 50) for of_file in texts.values() for text in of_file):
        assert unknown not in tokenizer.encode([text], 100)[0], text


def test_every_word_is_one_token_but_for_numbers(tokenizer: Tokenizer, texts: dict[str, set[str]]) -> None:
    words = {word for of_file in texts.values() for text in of_file for word in text.replace("?", "").split()}
    split = {word for word in words if len(tokenizer.encode([word.strip(",")], 100)[0]) > 3}
    assert [word for word in split if not word.isdigit()] == []


def test_tokens_turn_back_into_the_text(tokenizer: Tokenizer, texts: dict[str, set[str]]) -> None:
    for text in sorted(texts["shapes_karpathy_test.json"])[:50]:
        assert tokenizer.decode(tokenizer.encode([text], 100)[0]) == text


@pytest.mark.parametrize("task", CAPTION_TASKS)
def test_every_caption_fits_the_length_that_the_tasks_allow(
    task: str, tokenizer: Tokenizer, texts: dict[str, set[str]]
) -> None:
    settings = load_task(task).settings
    captions = texts["shapes_karpathy_test.json"] | texts["nocaps_val_captions.json"]
    # [CLS] stands for [DEC]; the closing [SEP] does not count.
    lengths = [len(tokenizer.encode([settings.prompt + caption], 100)[0]) - 1 for caption in captions]
    assert max(lengths) <= settings.max_length


def test_retrieval_and_questions_fit_the_lengths_that_the_tasks_allow(
    tokenizer: Tokenizer, texts: dict[str, set[str]]
) -> None:
    for task, file in (
        ("retrieval_shapes", "shapes_karpathy_test.json"),
        ("video_shapes", "msrvtt_test.jsonl"),
        ("vqa_shapes", "vqa_test.json"),
    ):
        assert max(len(tokenizer.encode([text], 100)[0]) for text in texts[file]) <= load_task(task).settings.max_tokens
