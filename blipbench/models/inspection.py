"""Describes a checkpoint as text: `blipbench ckpt inspect`.

In: any source that `load_checkpoint` takes, or the folder of a CLIP or SigLIP. Out: a summary, of a BLIP also where
the model's head counts are unknown.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from blipbench.download import DownloadProgress
from blipbench.errors import CheckpointError, UsageError
from blipbench.models.catalog import CatalogEntry, Kind, find_entry
from blipbench.models.checkpoint import count_parameters, find_vocabulary
from blipbench.models.checkpoint_files import Layout, locate, read_tensors
from blipbench.models.clip import Family, family_of, load_clip
from blipbench.models.config import ModelConfig
from blipbench.models.sizes import ignored_as, kind_of, modules_in, read_sizes, resolve_config

_VIT_NAMES = {(768, 12): "ViT-B", (1024, 24): "ViT-L"}


@dataclass(frozen=True)
class CheckpointSummary:
    """`sizes` by dotted field of ModelConfig; `config` is None if the head counts are unknown (`open_question`)."""

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
    unwrapped: str  # nests and prefixes of names that were taken off
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
            ("beside them", _listed(self.extras) or "nothing"),
            *([("taken off", self.unwrapped)] if self.unwrapped else []),
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
        return _as_lines(self.path, facts)


@dataclass(frozen=True)
class DualEncoderSummary:
    """A transformers folder of CLIP or SigLIP; widths and depths as (vision, text)."""

    path: Path
    sha256: str
    kind: Family
    image_size: int  # pixels
    patch_size: int
    widths: tuple[int, int]
    depths: tuple[int, int]
    heads: tuple[int, int]
    embed_dim: int
    vocab_size: int
    max_tokens: int  # of a text
    num_parameters: int
    processor: str  # transformers' classes
    tokenizer: str

    def lines(self) -> list[str]:
        """The summary as text, one fact a line."""
        vision, text = (
            f"{width} wide, {depth} deep, {heads} heads"
            for width, depth, heads in zip(self.widths, self.depths, self.heads, strict=True)
        )
        facts = [
            ("kind", f"{self.kind}, a dual encoder: it runs retrieval with --rerank none"),
            ("vision", f"{vision}, patch size {self.patch_size}"),
            ("image size", f"{self.image_size} px, by its own {self.processor}"),
            ("text", f"{text}, {self.vocab_size} tokens, at most {self.max_tokens} a text"),
            ("embeddings", str(self.embed_dim)),
            ("parameters", f"{self.num_parameters:,}"),
            ("tokenizer", self.tokenizer),
            ("layout", "transformers"),
            ("sha256", self.sha256),
        ]
        return _as_lines(self.path, facts)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _as_lines(path: Path, facts: Sequence[tuple[str, str]]) -> list[str]:
    return [str(path), *(f"  {name:<24}{value}" for name, value in facts)]


def inspect_checkpoint(
    source: str,
    *,
    config: ModelConfig | None = None,
    configs: Sequence[ModelConfig] = (),
    progress: DownloadProgress | None = None,
) -> CheckpointSummary | DualEncoderSummary:
    """Describe `source`. The arguments are those of `load_checkpoint`.

    Raises CheckpointError if the file cannot be read or its model is unknown, UsageError for a wrong `config`.
    """
    path = locate(source, progress)
    if family_of(path) is None:
        return _inspect_blip(path, config, configs)
    if config is not None:
        raise UsageError(f"--model: {source} is a {family_of(path)} model and states its own sizes; leave --model out")
    return _inspect_dual_encoder(path)


def _inspect_dual_encoder(path: Path) -> DualEncoderSummary:
    loaded = load_clip(path)
    vision, text = loaded.config.vision, loaded.config.text
    return DualEncoderSummary(
        path=path,
        sha256=loaded.sha256,
        kind=loaded.kind,
        image_size=vision.image_size,
        patch_size=vision.patch_size,
        widths=(vision.width, text.width),
        depths=(vision.depth, text.depth),
        heads=(vision.num_heads, text.num_heads),
        embed_dim=loaded.config.embed_dim,
        vocab_size=text.vocab_size,
        max_tokens=loaded.max_tokens,
        num_parameters=loaded.num_parameters,
        processor=type(loaded.processor).__name__,
        tokenizer=type(loaded.tokenizer).__name__,
    )


def _inspect_blip(path: Path, config: ModelConfig | None, configs: Sequence[ModelConfig]) -> CheckpointSummary:
    file = read_tensors(path)
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
        unwrapped=file.unwrapped,
        vocab=find_vocabulary(file, sizes["text.vocab_size"]),
        official=find_entry(file.path.name),
    )
