"""What of a spec reaches the objective."""

from pathlib import Path

import pytest
from objective_goldens import tiny_tokenizer
from training_runs import make_world, spec

from blipbench.models.tokenizer import load_tokenizer
from blipbench.training.build import build_objective, prompt_length
from blipbench.training.objectives import RetrievalObjective
from blipbench.training.spec import resolve_sizes


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


def test_rates_and_settings_are_the_specs(tmp_path: Path, world: Path) -> None:
    run = spec(tmp_path, dropout=0.2, drop_path=0.1, momentum=0.9, negative_all_rank=True)
    tokenizer = load_tokenizer(world / "vocab.txt")
    objective = build_objective(run, resolve_sizes(run, tokenizer.vocab_size), tokenizer)
    assert isinstance(objective, RetrievalObjective)
    assert (objective.config.text.dropout, objective.config.vision.drop_path) == (0.2, 0.1)
    assert (objective.momentum, objective.queue_size, objective.negative_all_rank) == (0.9, run.queue_size, True)
    assert objective.text_encoder.config.dropout == 0.2


def test_the_prompts_length_counts_dec_and_leaves_sep_out(tmp_path: Path) -> None:
    run = spec(tmp_path)
    prompted = run.model_copy(update={"data": run.data.model_copy(update={"prompt": "a picture of "})})
    tokens = len(tiny_tokenizer().encode(["a picture of"], 30)[0])  # [CLS] and [SEP] counted
    assert prompt_length(prompted, tiny_tokenizer()) == tokens - 1
