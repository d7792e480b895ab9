from pathlib import Path

import pytest

from blipbench.config.models import list_model_configs, load_model_config
from blipbench.errors import UsageError


def test_base_is_vit_b_16_with_bert_base() -> None:
    base = load_model_config("base")
    assert (base.vision.width, base.vision.depth, base.vision.num_tokens) == (768, 12, 577)
    assert (base.text.width, base.text.vocab_size, base.embed_dim) == (768, 30524, 256)


def test_all_are_listed_by_name() -> None:
    assert [model.name for model in list_model_configs()] == ["base", "large", "shapes", "tiny"]


def test_an_unknown_size_gets_the_nearest_one() -> None:
    with pytest.raises(UsageError, match=r"unknown model 'lage'; did you mean 'large'\?"):
        load_model_config("lage")


def test_an_unknown_key_in_a_size_file_is_placed(tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text("name: odd\nvision: {width: 8, depth: 1, num_head: 2, num_heads: 2, image_size: 32}\n")
    with pytest.raises(UsageError, match=r"odd\.yaml: unknown key 'num_head' under vision; did you mean 'num_heads'"):
        load_model_config(str(path))
