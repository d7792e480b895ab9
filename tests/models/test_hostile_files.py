"""Damaged and hostile checkpoints are refused by name, and nothing in them is run. What wrappers add is taken off."""

import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from damage import spoilt, spoilt_bytes
from goldens import GOLDEN
from hypothesis import HealthCheck, given, settings
from safetensors.torch import load_file, save_file
from tiny_clip import make_dual_encoder
from torch import Tensor

from blipbench.config.models import load_model_config
from blipbench.errors import BlipbenchError, CheckpointError
from blipbench.models.blip import BlipRetrieval
from blipbench.models.checkpoint import Checkpoint, load_checkpoint, load_weights
from blipbench.models.clip import load_clip
from blipbench.models.conversion import convert_checkpoint
from blipbench.models.inspection import inspect_checkpoint

State = dict[str, Tensor]


def golden() -> State:
    state: State = torch.load(GOLDEN / "tiny_retrieval.pth", weights_only=True)["model"]
    return state


def saved(folder: Path, content: Any) -> Path:
    (folder / "vocab.txt").write_bytes((GOLDEN / "vocab.txt").read_bytes())
    torch.save(content, folder / "a.pth")
    return folder / "a.pth"


TINY = load_model_config(str(GOLDEN / "tiny.yaml"))


def load(file: Path) -> Checkpoint:
    """A folder states its head counts, a file does not."""
    return load_checkpoint(str(file), config=None if file.is_dir() else TINY)


def refused_or_harmless(read: Callable[[Path], object], file: Path) -> None:
    """Whatever is wrong is said with the file's name, or does not matter."""
    try:
        read(file)
    except BlipbenchError as error:
        if str(file.parent) not in str(error):
            pytest.fail(f"the message does not name the file: {error}")


def prefixed(prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in golden().items()}


@pytest.mark.parametrize(
    "content, told",
    [
        ({"model": prefixed("module.")}, "model: module."),
        ({"state_dict": prefixed("model.") | {"loss.weight": torch.ones(3)}, "epoch": 3}, "state_dict: model."),
        ({"model_state_dict": prefixed("module._orig_mod.")}, "model_state_dict: module._orig_mod."),
        ({"state_dict": {"model": prefixed("")}}, "state_dict > model"),
        (
            {name.replace("visual_encoder.", "visual_encoder._orig_mod."): t for name, t in golden().items()},
            "_orig_mod.",
        ),
    ],
    ids=["DistributedDataParallel", "Lightning", "compiled", "nested", "compiled part"],
)
def test_a_checkpoint_saved_from_a_wrapper_loads_as_it_is(tmp_path: Path, content: Any, told: str) -> None:
    file = saved(tmp_path, content)
    plain, loaded = load(GOLDEN / "tiny_retrieval.pth"), load(file)
    assert loaded.state_dict.keys() == plain.state_dict.keys()
    assert all(torch.equal(loaded.state_dict[name], tensor) for name, tensor in plain.state_dict.items())
    summary = inspect_checkpoint(str(file), config=TINY)
    assert summary.unwrapped == told
    assert any(line.split() == ["taken", "off", *told.split()] for line in summary.lines())


def test_what_is_no_part_of_the_model_is_an_extra(tmp_path: Path) -> None:
    file = saved(tmp_path, {"state_dict": prefixed("model.") | {"loss.weight": torch.ones(3)}, "epoch": 3})
    assert set(inspect_checkpoint(str(file)).extras) == {"epoch", "loss.weight"}


def test_two_models_in_one_file_are_refused(tmp_path: Path) -> None:
    file = saved(tmp_path, prefixed("student.") | prefixed("teacher."))
    with pytest.raises(CheckpointError, match=r"several models, under the prefixes 'student\.', 'teacher\.'"):
        load(file)


PATCH, POSITIONS = "visual_encoder.patch_embed.proj.weight", "visual_encoder.pos_embed"
WORDS = "text_encoder.embeddings.word_embeddings.weight"


@pytest.mark.parametrize(
    "name", [PATCH, POSITIONS, WORDS, "vision_proj.weight", "text_encoder.embeddings.LayerNorm.weight"]
)
@pytest.mark.parametrize(
    "change",
    [
        lambda tensor: tensor[:0],
        lambda tensor: tensor[..., :0],
        lambda tensor: tensor[: len(tensor) // 2],
        lambda tensor: tensor[..., :1],
        lambda tensor: tensor[None],
        lambda tensor: tensor.flatten()[0],
        lambda tensor: tensor.to(torch.complex64),
        lambda tensor: tensor.to_sparse(),
        lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8),
        lambda tensor: tensor.to("meta"),
        lambda tensor: tensor * float("nan"),
        lambda tensor: 3,
        lambda tensor: None,
    ],
)
def test_a_tensor_of_the_wrong_kind_or_size_is_refused(
    tmp_path: Path, name: str, change: Callable[[Tensor], Any]
) -> None:
    """The task's model compares every shape, so only a model with the weights shows that all is well."""
    file = saved(tmp_path, {"model": {**golden(), name: change(golden()[name])}})

    def make_model() -> None:
        checkpoint = load(file)
        load_weights(BlipRetrieval(checkpoint.config), checkpoint, "retrieval_coco")

    with pytest.raises(BlipbenchError, match=r"a\.pth"):
        make_model()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformers folder of BLIP."""
    out = tmp_path_factory.mktemp("transformers") / "model"
    convert_checkpoint(str(GOLDEN / "tiny_retrieval.pth"), out, "transformers", config=TINY)
    return out


SIZES = [0, -1, None, "12", [12], {}, 12.5, True, 10**30, 7, "x" * 100]


@pytest.mark.parametrize("size", SIZES, ids=repr)
@pytest.mark.parametrize("field", ["num_attention_heads", "layer_norm_eps", "hidden_size", "image_size"])
@pytest.mark.parametrize("part", ["vision_config", "text_config"])
def test_absurd_sizes_in_a_config_are_refused_or_unread(folder: Path, part: str, field: str, size: Any) -> None:
    original = (folder / "config.json").read_text()
    content = json.loads(original)
    content[part][field] = size
    (folder / "config.json").write_text(json.dumps(content))
    try:
        refused_or_harmless(load, folder)
    finally:
        (folder / "config.json").write_text(original)


@pytest.mark.parametrize("content", ["[" * 10_000, '{"a":' * 10_000, "", "[]", '{"vision_config": []}', "\ud800"])
def test_a_config_that_is_no_config_is_refused(folder: Path, content: str) -> None:
    original = (folder / "config.json").read_text()
    (folder / "config.json").write_text(content, errors="surrogatepass")
    try:
        with pytest.raises(CheckpointError, match=r"config\.json"):
            load(folder)
    finally:
        (folder / "config.json").write_text(original)


def with_header(file: Path, content: Any) -> Path:
    header = content if isinstance(content, bytes) else json.dumps(content).encode()
    file.write_bytes(struct.pack("<Q", len(header)) + header)
    return file


def metadata(tmp_path: Path, **values: str) -> Path:
    save_file(
        {name: tensor.contiguous().clone() for name, tensor in golden().items()}, tmp_path / "a.safetensors", values
    )
    return tmp_path / "a.safetensors"


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: metadata(folder, **{"blipbench.tied": '{"a": {"b": "c"}}'}),
        lambda folder: metadata(folder, **{"blipbench.tied": '{"a": 3}'}),
        lambda folder: metadata(folder, **{"blipbench.tied": '["a"]'}),
        lambda folder: metadata(folder, **{"blipbench.tied": '{"a": "gone"}'}),
        lambda folder: metadata(folder, **{"blipbench.tied": "[" * 10_000}),
        lambda folder: metadata(folder, **{"blipbench.model": "[" * 10_000}),
        lambda folder: metadata(folder, **{"blipbench.model": '{"name": "x", "vision": {"width": -1}}'}),
        lambda folder: with_header(
            folder / "a.safetensors", {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
        ),
        lambda folder: with_header(
            folder / "a.safetensors", {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 0]}}
        ),
        lambda folder: with_header(folder / "a.safetensors", b"{" * 100_000),
        lambda folder: with_header(folder / "a.safetensors", {}),
        lambda folder: (folder / "a.safetensors").write_bytes(struct.pack("<Q", 2**62)) and folder / "a.safetensors",
    ],
)
def test_a_hostile_safetensors_header_is_refused(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    (tmp_path / "vocab.txt").write_bytes((GOLDEN / "vocab.txt").read_bytes())
    make(tmp_path)
    with pytest.raises(BlipbenchError, match=r"a\.safetensors"):
        load(tmp_path / "a.safetensors")


@pytest.mark.parametrize("index", ["{}", '{"weight_map": 3}', '{"weight_map": {"a": "../../x"}}', "[" * 10_000, ""])
def test_a_bad_index_of_shards_is_refused(tmp_path: Path, index: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        load(tmp_path)


def test_a_pipe_in_place_of_a_checkpoint_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pth")
    for read in (load, lambda file: inspect_checkpoint(str(file))):
        with pytest.raises(CheckpointError, match=r"pipe\.pth: not a regular file"):
            read(tmp_path / "pipe.pth")


def test_a_pipe_inside_a_folder_is_refused_at_once(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(CheckpointError):
            load(tmp_path)
        (tmp_path / name).unlink()
        (tmp_path / "config.json").write_text("{}")


def fuzz(test: Any) -> Any:
    quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=60, deadline=None, database=None, derandomize=True, suppress_health_check=quiet)(test)


@pytest.mark.parametrize("name", ["tiny_retrieval.pth", "vocab.txt"])
def test_damaged_bytes_are_refused_or_harmless(tmp_path: Path, name: str) -> None:
    saved(tmp_path, {"model": golden()})
    target = tmp_path / ("a.pth" if name.endswith(".pth") else name)

    @fuzz
    @given(content=spoilt_bytes((GOLDEN / name).read_bytes()))
    def check(content: bytes) -> None:
        target.write_bytes(content)
        refused_or_harmless(load, tmp_path / "a.pth")

    check()


@pytest.mark.parametrize("family", ["clip", "siglip"])
@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "tokenizer_config.json", "tokenizer.json"])
def test_a_damaged_file_of_a_dual_encoder_is_refused_or_harmless(tmp_path: Path, family: str, name: str) -> None:
    folder = make_dual_encoder(family, tmp_path / family)
    original = json.loads((folder / name).read_text())

    @fuzz
    @given(content=spoilt(original))
    def check(content: Any) -> None:
        (folder / name).write_text(json.dumps(content))
        refused_or_harmless(load_clip, folder)

    check()


def test_equal_weights_give_equal_files(tmp_path: Path) -> None:
    """Each process would order the header's metadata differently."""
    import hashlib
    import subprocess
    import sys

    script = (
        "import sys; from pathlib import Path; from blipbench.models.conversion import convert_checkpoint;"
        "from blipbench.config.models import load_model_config;"
        "convert_checkpoint(sys.argv[1], Path(sys.argv[2]), 'safetensors', config=load_model_config(sys.argv[3]))"
    )
    files = [tmp_path / f"{number}.safetensors" for number in range(3)]
    for file in files:
        source = str(GOLDEN / "tiny_vqa.pth")
        subprocess.run([sys.executable, "-c", script, source, str(file), str(GOLDEN / "tiny.yaml")], check=True)
    assert len({hashlib.sha256(file.read_bytes()).hexdigest() for file in files}) == 1
    assert load_file(files[0]).keys()


def test_a_dict_that_contains_itself_is_refused(tmp_path: Path) -> None:
    content: dict[str, Any] = {}
    content["model"] = content
    with pytest.raises(CheckpointError, match=r"a\.pth: "):
        load(saved(tmp_path, content))


def test_two_state_dicts_are_refused_rather_than_one_chosen(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="several state dicts, under 'model' and 'state_dict'"):
        load(saved(tmp_path, {"model": golden(), "state_dict": golden()}))


def test_a_name_that_is_there_twice_without_its_wrapper_is_refused(tmp_path: Path) -> None:
    compiled = {f"_orig_mod.{name}": tensor for name, tensor in golden().items()}
    with pytest.raises(CheckpointError, match=r"twice, as|several models"):
        load(saved(tmp_path, {**golden(), **compiled}))


def test_a_file_that_was_compressed_later_is_refused(tmp_path: Path) -> None:
    """torch would map the compressed bytes as if they were the weights."""
    file = saved(tmp_path, {"model": golden()})
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    with pytest.raises(CheckpointError, match="compressed after torch wrote it"):
        load(file)


@pytest.mark.parametrize("shard", [3, None, ["a"], {}, "../x.bin", "a b.exe", ""], ids=repr)
def test_a_shard_that_is_no_file_name_is_refused(tmp_path: Path, shard: Any) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(CheckpointError, match="weight_map: 'a': expected the name"):
        load(tmp_path)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn, torch.bool], ids=str)
def test_a_weight_of_another_dtype_is_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    file = saved(tmp_path, {"model": {**golden(), PATCH: golden()[PATCH].to(dtype)}})
    with pytest.raises(CheckpointError, match=f"{PATCH}' has dtype"):
        load(file)
