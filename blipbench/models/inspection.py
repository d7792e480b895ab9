"""What a checkpoint is, in lines: `blipbench ckpt inspect`.

In: any source that `load_checkpoint` takes. Out: a summary, also where nothing tells the model's head counts.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from blipbench.download import Progress
from blipbench.errors import CheckpointError
from blipbench.models.catalog import CatalogEntry, Kind, find_entry
from blipbench.models.checkpoint import count_parameters, find_vocabulary
from blipbench.models.checkpoint_files import Layout, locate, read_tensors
from blipbench.models.config import ModelConfig
from blipbench.models.sizes import ignored_as, kind_of, modules_in, read_sizes, resolve_config

_VIT_NAMES = {(768, 12): "ViT-B", (1024, 24): "ViT-L"}


@dataclass(frozen=True)
class CheckpointSummary:
    """`sizes` by dotted field of ModelConfig; `config` is None where nothing tells the heads (`open_question`)."""

    path: Path
    layout: Layout
    sha256: str
    kind: Kind
    heads: tuple[str, ...]
    sizes: dict[str, int]
    config: ModelConfig | None
    open_question: str | None
    num_parameters: int  # momentum copies and queues not counted
    ignored: dict[str, int]  # what, and how many tensors
    extras: tuple[str, ...]  # what lies in the file beside the tensors
    vocab: Path | None
    official: CatalogEntry | None

    @property
    def vision_name(self) -> str:
        """ViT-B/16, ViT-L/16, or the sizes of another one."""
        width, depth, patch = (self.sizes[f"vision.{field}"] for field in ("width", "depth", "patch_size"))
        name = _VIT_NAMES.get((width, depth), f"ViT {width} wide, {depth} deep, patch size")
        return f"{name}/{patch}" if (width, depth) in _VIT_NAMES else f"{name} {patch}"

    def lines(self) -> list[str]:
        """The summary as text, one fact a line."""
        heads = self.config and (self.config.vision.num_heads, self.config.text.num_heads)
        vision_heads, text_heads = heads or ("unknown", "unknown")
        facts = [
            ("kind", f"{self.kind} ({', '.join(self.heads)})"),
            ("vision", f"{self.vision_name}, {vision_heads} heads"),
            ("image size", f"{self.sizes['vision.image_size']} px"),
            (
                "text",
                f"{self.sizes['text.width']} wide, {self.sizes['text.depth']} deep, {text_heads} heads, "
                f"{self.sizes['text.vocab_size']} tokens",
            ),
            ("parameters", f"{self.num_parameters:,}"),
            ("not evaluated", ", ".join(f"{count} {what}" for what, count in self.ignored.items()) or "nothing"),
            ("beside them", ", ".join(self.extras) or "nothing"),
            ("vocabulary", str(self.vocab) if self.vocab else "bert-base-uncased, bundled"),
            ("layout", self.layout),
            ("sha256", self.sha256),
        ]
        if self.official is not None:
            facts.append(("official file", f"{self.official.file}: {self.official.what}"))
            if self.official.kind != self.kind:
                facts.append(("mind", f"it has that file's name, but that one is of kind {self.official.kind}"))
            for task, row in self.official.published.items():
                facts.append((f"row of {task}", f"{row.model}, {row.split}"))
            for task, caveat in self.official.caveats.items():
                facts.append((f"mind in {task}", caveat))
        if self.open_question is not None:
            facts.append(("mind", self.open_question))
        return [str(self.path), *(f"  {name:<24}{value}" for name, value in facts)]


def inspect_checkpoint(
    source: str,
    *,
    config: ModelConfig | None = None,
    configs: Sequence[ModelConfig] = (),
    progress: Progress | None = None,
) -> CheckpointSummary:
    """Say what `source` is; the arguments are those of `load_checkpoint`.

    Raises CheckpointError for a file that cannot be read or is no BLIP checkpoint, UsageError for a wrong `config`.
    """
    file = read_tensors(locate(source, progress))
    kind = kind_of(file.path, file.tensors)
    sizes = read_sizes(file.path, file.tensors)
    resolved, open_question = None, None
    try:
        resolved = resolve_config(file.path, sizes, config, file.stated, configs)
    except CheckpointError as error:
        open_question = str(error)
    weights = {name: tensor for name, tensor in file.tensors.items() if ignored_as(name) is None}
    return CheckpointSummary(
        path=file.path,
        layout=file.layout,
        sha256=file.sha256,
        kind=kind,
        heads=modules_in(weights),
        sizes=sizes,
        config=resolved,
        open_question=open_question,
        num_parameters=count_parameters(weights.values()),
        ignored=dict(Counter(what for name in file.tensors if (what := ignored_as(name)) is not None)),
        extras=file.extras,
        vocab=find_vocabulary(file, sizes["text.vocab_size"]),
        official=find_entry(file.path.name),
    )
