"""No input may end in a traceback: options, definitions, annotations and the files of a run, damaged or extreme.

Every example runs a command on tiny data. It must end with exit code 0, 1 or 2 and a message, never as an internal
error.
Examples are drawn the same way every time. `BLIPBENCH_FUZZ=1000 pytest tests/cli/test_no_traceback.py` draws more.
"""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from command_line import GOLDEN_TASKS, blipbench, golden_arguments
from damage import spoilt, spoilt_bytes
from goldens import GOLDEN
from hypothesis import HealthCheck, given, settings, strategies as st
from training_runs import make_world, train_arguments, write_config

from blipbench.cli.main import main

EXAMPLES = int(os.environ.get("BLIPBENCH_FUZZ", "25"))


def fuzz(examples: int = EXAMPLES) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )


@pytest.fixture(scope="module", autouse=True)
def without_java(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Java takes seconds to score captions."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PATH", str(tmp_path_factory.mktemp("bin")))
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a world, a picture, a finished run and a finished training, to be copied and spoilt."""
    folder = tmp_path_factory.mktemp("place")
    make_world(folder / "world")
    shutil.copy(next((folder / "world" / "images" / "test").iterdir()), folder / "picture.jpg")
    (folder / "a_file").touch()
    ends_well(*golden_arguments(folder / "runs", limit=3))
    config = write_config(folder, checkpoint_every=5, max_steps=10)
    ends_well(*train_arguments(config, folder / "world", folder / "trained"))
    return folder


def ends_well(*arguments: object) -> None:
    """The command ends with exit code 0, 1 or 2, and where it fails it says why."""
    done = blipbench("--debug", *arguments)
    if done.exit_code not in (0, 1, 2) or (done.exit_code and not done.output.strip()):
        pytest.fail(f"{arguments} ended with {done.exit_code}:\n{done.output}")


# A valid call of every command. {place} is the folder above; the options that are drawn come behind these.
CALLS: dict[str, list[str]] = {
    "run": [*golden_arguments(Path("{new}"), limit=2)],
    "score": ["score", "{new}/runs/retrieval_golden/tiny_retrieval"],
    "table": ["table", "{new}/runs"],
    "profile": ["profile", "--model", "tiny", "--part", "vit-mlp", "--seconds", "0", "--out", "{new}/profiles"],
    "list": ["list"],
    "show": ["show", "retrieval_coco"],
    "doctor": ["doctor"],
    "caption": ["caption", "{new}/picture.jpg", "--ckpt", "shapes_base"],
    "ask": ["ask", "{new}/picture.jpg", "what?", "--ckpt", "shapes_vqa"],
    "match": ["match", "{new}/picture.jpg", "a red circle", "--ckpt", "shapes_base"],
    "capfilt": [
        *("capfilt", "--data", "{new}/world/web_shapes.json", "--images", "{new}/world", "--out", "{new}/boot.json"),
        *("--filter", "shapes_base", "--limit", "2"),
    ],
    "train": ["train", "{new}/tiny.yaml", "--data", "{new}/world", "--out", "{new}/trained", "--resume"],
    "data verify": [
        "data",
        "verify",
        "retrieval_golden",
        "--data",
        str(GOLDEN / "data"),
        "--tasks-dir",
        str(GOLDEN_TASKS),
    ],
    "data make shapes": ["data", "make", "shapes", "--out", "{new}/made", "--images", "1", "--train-images", "0"],
    "ckpt inspect": ["ckpt", "inspect", str(GOLDEN / "tiny_itm.pth")],
    "ckpt convert": ["ckpt", "convert", str(GOLDEN / "tiny_itm.pth"), "{new}/converted.safetensors"],
    "ckpt slim": ["ckpt", "slim", str(GOLDEN / "tiny_itm.pth"), "{new}/slim.safetensors"],
    "ckpt random": ["ckpt", "random", "--model", "tiny", "--out", "{new}/random.safetensors"],
}

VALUES = [
    *("", " ", "0", "1", "-1", "2", "1e9", "nan", "inf", "-0.5", "0.5", "1.5", "none", "NULL", "🙂", "a b", "--", "-"),
    *("x" * 300, "{new}/a_file", "{new}/a_file/x", "{new}", "{new}/gone", "{new}/gone/x.json", "/dev/null", "../x"),
    *(
        "cpu",
        "cuda",
        "cuda:7",
        "meta",
        "cpu:-1",
        "karpathy",
        "clip",
        "base",
        "tiny",
        "large",
        "shapes_base",
        "val",
        "train",
    ),
    *("[", "a=b", "lr=nan", "lr=[]", "=", "model.vision.width=0", "data=1", "epochs=null", "seed=99999999999999999999"),
]


def command_of(name: str) -> click.Command:
    found: click.Command = main
    for part in name.split():
        assert isinstance(found, click.Group)
        found = found.commands[part]
    return found


def all_commands(group: click.Group = main, prefix: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from all_commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name


def test_every_command_is_driven() -> None:
    assert set(all_commands()) - set(CALLS) == {"data prepare"}  # which downloads


@pytest.mark.parametrize("name", [name for name in CALLS if name != "ckpt slim"])  # which has no options
def test_options(name: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # some values are relative paths
    options = [p for p in command_of(name).params if isinstance(p, click.Option)]
    flag = st.sampled_from([option.opts[0] for option in options])
    is_flag = {option.opts[0] for option in options if option.is_flag}
    counter = iter(range(10**6))

    @fuzz()
    @given(drawn=st.lists(st.tuples(flag, st.sampled_from(VALUES)), min_size=1, max_size=3))
    def check(drawn: list[tuple[str, str]]) -> None:
        new = tmp_path / str(next(counter))
        shutil.copytree(place, new)
        more = [part for one, value in drawn for part in ([one] if one in is_flag else [one, value])]
        ends_well(*(part.replace("{new}", str(new)) for part in [*CALLS[name], *more]))
        shutil.rmtree(new, ignore_errors=True)

    check()


@pytest.mark.parametrize("task", sorted(path.stem for path in GOLDEN_TASKS.glob("*.yaml")))
def test_task_definitions(task: str, tmp_path: Path) -> None:
    @fuzz()
    @given(content=spoilt(yaml.safe_load((GOLDEN_TASKS / f"{task}.yaml").read_text())))
    def check(content: Any) -> None:
        file = tmp_path / f"{task}.yaml"
        file.write_text(yaml.safe_dump(content), encoding="utf-8", errors="surrogatepass")
        ends_well("show", file)
        ends_well("list", "--tasks-dir", tmp_path)
        ends_well("data", "verify", file, "--data", GOLDEN / "data", "--workers", 0)
        shutil.rmtree(tmp_path / "runs", ignore_errors=True)
        ends_well(*golden_arguments(tmp_path / "runs", file, limit=2))

    check()


def test_training_configurations(place: Path, tmp_path: Path) -> None:
    original = yaml.safe_load((place / "tiny.yaml").read_text())

    @fuzz()
    @given(content=spoilt(original))
    def check(content: Any) -> None:
        file = tmp_path / "tiny.yaml"
        file.write_text(yaml.safe_dump(content), encoding="utf-8", errors="surrogatepass")
        ends_well(*train_arguments(file, place / "world", tmp_path / "out", "--fresh", "--set", "max_steps=1"))

    check()


@pytest.mark.parametrize("command", ["score", "table", "run --resume"])
@pytest.mark.parametrize("file", ["result.json", "run.json"])
def test_records_of_a_run(command: str, file: str, place: Path, tmp_path: Path) -> None:
    original = (place / "runs" / "retrieval_golden" / "tiny_retrieval" / file).read_bytes()
    texts = spoilt(json.loads(original)).map(lambda value: json.dumps(value).encode())
    counter = iter(range(10**6))

    @fuzz()
    @given(content=texts | spoilt_bytes(original))
    def check(content: bytes) -> None:
        runs = tmp_path / str(next(counter))
        shutil.copytree(place / "runs", runs)
        folder = runs / "retrieval_golden" / "tiny_retrieval"
        (folder / file).write_bytes(content)
        match command:
            case "score":
                ends_well("score", folder)
            case "table":
                ends_well("table", runs)
            case _:
                ends_well(*golden_arguments(runs, limit=3), "--resume")
        shutil.rmtree(runs)

    check()


@pytest.mark.parametrize("stage", ["embed", "rerank"])
def test_samples_of_a_run(stage: str, place: Path, tmp_path: Path) -> None:
    relative = Path("retrieval_golden", "tiny_retrieval", "samples", f"{stage}.parquet")
    original = (place / "runs" / relative).read_bytes()
    counter = iter(range(10**6))

    @fuzz()
    @given(content=spoilt_bytes(original))
    def check(content: bytes) -> None:
        runs = tmp_path / str(next(counter))
        shutil.copytree(place / "runs", runs)
        (runs / relative).write_bytes(content)
        ends_well("score", runs / "retrieval_golden" / "tiny_retrieval")
        ends_well(*golden_arguments(runs, limit=3), "--resume")
        shutil.rmtree(runs)

    check()


@pytest.mark.parametrize("file", ["state.pt", "train.json", "metrics.jsonl", "last.safetensors"])
def test_state_of_a_training(file: str, place: Path, tmp_path: Path) -> None:
    original = (place / "trained" / "tiny" / file).read_bytes()
    contents = spoilt_bytes(original)
    if file == "train.json":
        contents |= spoilt(json.loads(original)).map(lambda value: json.dumps(value).encode())
    counter = iter(range(10**6))

    @fuzz(max(1, EXAMPLES // 2))
    @given(content=contents)
    def check(content: bytes) -> None:
        out = tmp_path / str(next(counter))
        shutil.copytree(place / "trained", out)
        (out / "tiny" / file).write_bytes(content)
        config = write_config(out, checkpoint_every=5, max_steps=12)
        ends_well(*train_arguments(config, place / "world", out, "--resume"))
        shutil.rmtree(out)

    check()
