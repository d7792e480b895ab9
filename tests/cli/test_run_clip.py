"""`blipbench run` with CLIP and SigLIP: retrieval beside BLIP, and the refusal of what they cannot do."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from command_line import blipbench, golden_arguments, result_of, says
from goldens import GOLDEN
from tiny_clip import IMAGE_SIZE, MAX_TOKENS, make_dual_encoder

from blipbench.models.clip import FAMILIES

CALLED = {"clip": "CLIP", "siglip": "SigLIP"}


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return make_dual_encoder(request.param, tmp_path / request.param)


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Callable[..., Result]:
    def with_changes(*flags: str, task: str = "retrieval_golden", **changes: object) -> Result:
        flags_of_clip = {"ckpt": folder, "model": folder.name, "rerank": "none", **changes}
        arguments = golden_arguments(tmp_path / "runs", task, **flags_of_clip)
        for name, value in flags_of_clip.items():
            if value is None:
                del arguments[arguments.index(f"--{name}") : arguments.index(f"--{name}") + 2]
        return blipbench(*arguments, *flags)

    return with_changes


def result(folder: Path, tmp_path: Path) -> dict[str, Any]:
    return result_of(tmp_path / "runs", "retrieval_golden", folder.name)


def test_retrieval_by_embeddings_alone(run: Callable[..., Result], folder: Path, tmp_path: Path) -> None:
    says(run(), 0, "txt_r1", "img_r1", "self-check")
    told = result(folder, tmp_path)
    assert told["status"] == "complete" and told["model"]["kind"] == folder.name
    assert told["self_check"]["deviation"] < 1e-5
    table = pq.read_table(tmp_path / "runs" / "retrieval_golden" / folder.name / "samples" / "embed.parquet")
    norms = np.linalg.norm(np.array(table.column("embedding").to_pylist()), axis=1)
    assert len(table) == 72 and np.allclose(norms, 1.0, atol=1e-5)


def test_the_result_states_the_models_own_image_size_and_text_length(
    run: Callable[..., Result], folder: Path, tmp_path: Path
) -> None:
    run()
    told = result(folder, tmp_path)
    assert told["model"]["image_size"] == IMAGE_SIZE
    assert told["task"]["settings"]["max_tokens"] == MAX_TOKENS[folder.name]


def test_the_folder_says_what_it_is_without_model(run: Callable[..., Result]) -> None:
    says(run(model=None), 0, "txt_r1")


def test_a_run_of_a_hub_checkpoint_is_named_after_its_repository(
    run: Callable[..., Result], folder: Path, tmp_path: Path
) -> None:
    snapshot = tmp_path / "hub" / f"models--somebody--tiny-{folder.name}" / "snapshots" / "0123abc"
    shutil.copytree(folder, snapshot)
    says(run(ckpt=snapshot), 0)
    assert (tmp_path / "runs" / "retrieval_golden" / f"somebody_tiny-{folder.name}" / "result.json").is_file()


def test_resume_finds_everything_done(run: Callable[..., Result], folder: Path, tmp_path: Path) -> None:
    run()
    before = result(folder, tmp_path)["metrics"]
    says(run("--resume"), 0)
    assert result(folder, tmp_path)["timing"]["stages"][0]["items"] == 0
    assert result(folder, tmp_path)["metrics"] == before


def test_rerank_is_refused_with_the_way_out(run: Callable[..., Result], folder: Path, tmp_path: Path) -> None:
    lacking = f"requires image-text matching, which {CALLED[folder.name]} does not support; use --rerank none"
    says(run(rerank="itm"), 2, f"retrieval_golden {lacking}")
    assert not (tmp_path / "runs").exists()


def test_a_task_of_another_kind_is_refused_before_its_data_are_looked_for(
    run: Callable[..., Result], folder: Path, tmp_path: Path
) -> None:
    done = run(task="nlvr", rerank=None, data=tmp_path / "nowhere")
    lacking = f"nlvr requires reasoning over two images, which {CALLED[folder.name]} does not support"
    says(done, 2, lacking, "model_base_nlvr.pth")


def test_a_blip_is_no_clip(run: Callable[..., Result], folder: Path) -> None:
    says(
        run(ckpt=GOLDEN / "tiny_retrieval.pth"),
        2,
        f"--model {folder.name}",
        "tiny_retrieval.pth",
        "not a transformers folder",
    )


def test_model_contradicts_the_folder(run: Callable[..., Result], folder: Path) -> None:
    other = next(family for family in FAMILIES if family != folder.name)
    says(run(model=other), 2, f"--model {other}", f"config.json says {folder.name}")


def test_sizes_of_a_blip_are_refused(run: Callable[..., Result], folder: Path) -> None:
    says(run(model=GOLDEN / "tiny.yaml"), 2, f"is a {folder.name} model and states its own sizes", "leave --model out")


def test_a_damaged_config(run: Callable[..., Result], folder: Path) -> None:
    (folder / "config.json").write_text("{")
    says(run(), 1, "config.json")


def test_weights_for_another_width(run: Callable[..., Result], folder: Path) -> None:
    file = folder / "config.json"
    config = json.loads(file.read_text())
    config["vision_config"]["hidden_size"] = 16
    file.write_text(json.dumps(config))
    done = run()
    assert done.exit_code == 1 and "Traceback" not in done.output and folder.name in done.output
