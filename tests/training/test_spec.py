"""Training configurations: what ships is the reference's, what is wrong is named."""

from pathlib import Path
from typing import Any

import pytest
from training_runs import spec, write_config

from blipbench.errors import UsageError
from blipbench.models.config import ModelConfig
from blipbench.training.spec import list_train_specs, load_train_spec, resolve_sizes


def test_every_shipped_configuration_is_valid_and_its_model_fits() -> None:
    specs = {run.name: run for run in list_train_specs()}
    assert {run.kind for run in specs.values()} == {"pretrain", "retrieval", "caption", "vqa", "nlvr"}
    assert {f"{s.kind}_shapes" for s in specs.values()} <= specs.keys()
    for run in specs.values():
        assert resolve_sizes(run, 30524).vision.image_size == run.image_size


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("retrieval_coco", {"lr": 1e-5, "batch_size": 32, "epochs": 6, "queue_size": 57600, "negative_all_rank": True}),
        ("retrieval_flickr", {"lr": 1e-5, "batch_size": 32, "epochs": 6, "negative_all_rank": False}),
        ("caption_coco", {"lr": 1e-5, "batch_size": 32, "epochs": 5, "image_size": 384, "min_scale": 0.5}),
        ("vqa", {"lr": 2e-5, "batch_size": 16, "epochs": 10, "image_size": 480, "drop_path": 0.1}),
        ("nlvr", {"lr": 3e-5, "batch_size": 16, "epochs": 15, "image_size": 384, "drop_path": 0.1}),
        ("pretrain", {"lr": 3e-4, "batch_size": 75, "epochs": 20, "warmup_steps": 3000, "min_scale": 0.2}),
    ],
)
def test_the_references_hyper_parameters(name: str, expected: dict[str, Any]) -> None:
    stated = load_train_spec(name).model_dump()
    assert {key: stated[key] for key in expected} == expected
    assert stated["weight_decay"] == 0.05 and stated["dropout"] == 0.1


def test_set_changes_a_key_a_nested_key_and_one_size_of_a_named_model(tmp_path: Path) -> None:
    changes = ["lr=1e-4", "data.annotations=[a.json, b.json]", "model.vision.width=48", "evaluate=null"]
    changed = load_train_spec("retrieval_shapes", changes)
    assert changed.lr == 1e-4
    assert changed.data.annotations == ("a.json", "b.json")
    assert isinstance(changed.model, ModelConfig) and changed.model.vision.width == 48
    assert changed.model.text == load_train_spec("retrieval_shapes", ["model.name=x"]).model.text  # type: ignore[union-attr]
    assert changed.evaluate is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("bach_size=3", "--set bach_size=3: unknown key 'bach_size'; did you mean 'batch_size'?"),
        ("data.max_word=3", "unknown key 'max_word' under data; did you mean 'max_words'?"),
        ("lr", "--set lr: expected key=value"),
        ("lr=fast", "lr: input should be a valid number"),
        ("queue_size=null", "queue_size: kind 'retrieval' needs one"),
        ("by_image=true", "by_image: only kinds vqa and nlvr share an image's encoding"),
        ("augment=reference", "cache_pixels: augmented pixels differ every epoch"),
        ("freeze_blocks=-1", "freeze_blocks: input should be greater than or equal to 0"),
        ("cache_embeds=true", "cache_embeds: what the image encoder makes of an image must stay the same; it needs"),
    ],
)
def test_a_wrong_change_is_named(change: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        load_train_spec("retrieval_shapes", [change])
    assert message in str(error.value)


def test_an_unknown_key_of_the_file_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"tiny.yaml: unknown key 'wait_decay'; did you mean 'weight_decay'\?"):
        load_train_spec(str(write_config(tmp_path, wait_decay=0.1)))


def test_a_patch_that_does_not_divide_the_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="image_size: 40 is not a multiple of the model's patch, 16"):
        resolve_sizes(spec(tmp_path, image_size=40), 100)


def test_an_image_encoder_is_frozen_whole_or_in_part() -> None:
    with pytest.raises(UsageError, match="freeze_blocks: freeze_vision true freezes them all"):
        load_train_spec("retrieval_shapes", ["freeze_vision=true", "freeze_blocks=1"])
