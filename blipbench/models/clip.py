"""Loads CLIP and SigLIP, dual encoders of transformers, from a folder, with their own preprocessing.

In: a transformers folder whose config.json says model_type clip or siglip. Out: a `ClipCheckpoint`: the model in
float32, its tokenizer and its image processor. No code of the folder is run.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from PIL import Image
from pydantic import ValidationError

from blipbench.errors import CheckpointError
from blipbench.models.checkpoint import count_parameters, require_finite
from blipbench.models.checkpoint_files import hash_weights, read_json
from blipbench.models.config import ModelConfig, TextConfig, VisionConfig
from blipbench.models.tensor_files import require_regular

Family = Literal["clip", "siglip"]
FAMILIES: tuple[Family, ...] = get_args(Family)

# What transformers reads besides config.json and the weights.
_JSON = (
    *("preprocessor_config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("special_tokens_map.json", "added_tokens.json", "vocab.json"),
)
_OTHERS = ("merges.txt", "spiece.model", "tokenizer.model", "chat_template.jinja")

CAPABILITIES = frozenset({"embed_images", "embed_texts"})


@dataclass(frozen=True)
class ClipCheckpoint:
    """A dual encoder. `processor` and `tokenizer` are transformers'; texts have at most `max_tokens` tokens.

    `config` holds the sizes as far as BLIP's have the same names. `pads_texts` says that the model was trained on texts
    filled up to `max_tokens`, whose padding it sees (SigLIP), rather than on texts that end where they end (CLIP).
    """

    path: Path
    sha256: str
    kind: Family
    config: ModelConfig
    num_parameters: int
    model: Any
    processor: Any
    tokenizer: Any

    @property
    def max_tokens(self) -> int:
        return self.config.text.max_positions

    @property
    def pads_texts(self) -> bool:
        return self.kind == "siglip"


def family_of(path: Path) -> Family | None:
    """Which of the families the folder's config.json names; None for a file and for any other model.

    Raises CheckpointError if config.json is not a JSON object.
    """
    file = path / "config.json"
    if not file.is_file():
        return None
    stated = read_json(file, f"{path}: a transformers folder needs config.json").get("model_type")
    return next((family for family in FAMILIES if family == stated), None)


def load_clip(path: Path) -> ClipCheckpoint:
    """Read the folder of a dual encoder. Raises CheckpointError if a part is missing or damaged or does not fit."""
    from transformers import AutoImageProcessor, AutoTokenizer  # takes seconds to import, and few runs need it

    family = family_of(path)
    if family is None:
        raise CheckpointError(f"{path}: config.json is missing or does not say model_type {' or '.join(FAMILIES)}")
    sha256 = hash_weights(path)
    _require_readable(path)
    config = _load_config(path, family)
    model = _load_model(path, family)
    # Pillow's resizing, which these models were trained with; the other backend's differs in a few pixels.
    processor = _load_part(path, "image processor (preprocessor_config.json)", AutoImageProcessor, backend="pil")
    tokenizer = _load_part(path, "tokenizer", AutoTokenizer)
    _require_sane(path, processor)
    _require_fit(path, processor, config.vision.image_size)
    _require_words(path, tokenizer)
    return ClipCheckpoint(
        path=path,
        sha256=sha256,
        kind=family,
        config=config,
        num_parameters=count_parameters(model.parameters()),
        model=model,
        processor=processor,
        tokenizer=tokenizer,
    )


def _require_readable(path: Path) -> None:
    """Raise CheckpointError for a file that transformers would misread, or wait for without end, without its name."""
    for name in (*_JSON, *_OTHERS):
        if (path / name).exists():
            require_regular(path / name)
            if name in _JSON:
                read_json(path / name, f"{path / name}: a file of the tokenizer or the image processor")


def _load_config(path: Path, family: Family) -> ModelConfig:
    """The sizes of the model, checked before it is built: an absurd one would take all memory, or never end."""
    from transformers import CLIPConfig, SiglipConfig

    kind: Any = {"clip": CLIPConfig, "siglip": SiglipConfig}[family]
    with _explained(f"{path}: config.json cannot be used"):
        stated = kind.from_pretrained(path, local_files_only=True)
        for part in (stated.vision_config, stated.text_config):
            if not 0 < part.intermediate_size <= 2**18:
                raise ValueError(f"intermediate_size is {part.intermediate_size}")
        try:
            return _config_of(family, stated)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise ValueError(f"{field}: {first['msg']}, found {first['input']!r:.60}") from error


def _load_model(path: Path, family: Family) -> Any:
    """The model in float32, with every weight from the file."""
    import torch
    from transformers import CLIPModel, SiglipModel
    from transformers.utils import logging

    logging.disable_progress_bar()  # it takes a second, and every rank would show one
    kind: Any = {"clip": CLIPModel, "siglip": SiglipModel}[family]
    with _explained(f"{path}: the weights cannot be loaded as {kind.__name__}"):
        model, report = kind.from_pretrained(path, local_files_only=True, dtype=torch.float32, output_loading_info=True)
    absent = sorted(report["missing_keys"])
    if absent:
        more = f" and {len(absent) - 4} more" if absent[4:] else ""
        raise CheckpointError(
            f"{path}: {len(absent)} tensors of {kind.__name__} are missing: {', '.join(absent[:4])}{more}; "
            f"the file is of another architecture or damaged"
        )
    require_finite(path, model.state_dict())
    return model.eval()


def _load_part(path: Path, what: str, loader: Any, **options: Any) -> Any:
    with _explained(f"{path}: its {what} cannot be loaded"):
        return loader.from_pretrained(path, local_files_only=True, **options)


@contextmanager
def _explained(message: str) -> Iterator[None]:
    """Make a CheckpointError of whatever transformers raises inside on a damaged file.

    Its Rust libraries panic on some files: that is no Exception, and has a type of each library's own.
    """
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        way_out = "; run `pip install blipbench[siglip]`" if isinstance(error, ImportError) else ""
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(f"{message} ({reason[:300]}){way_out}") from error


def _config_of(family: Family, config: Any) -> ModelConfig:
    vision, text = config.vision_config, config.text_config
    embed_dim = config.projection_dim if family == "clip" else text.projection_size
    return ModelConfig(
        name=f"{family} {vision.hidden_size}x{vision.num_hidden_layers}/{vision.patch_size}",
        vision=VisionConfig(
            width=vision.hidden_size,
            depth=vision.num_hidden_layers,
            num_heads=vision.num_attention_heads,
            image_size=vision.image_size,
            patch_size=vision.patch_size,
        ),
        text=TextConfig(
            width=text.hidden_size,
            depth=text.num_hidden_layers,
            num_heads=text.num_attention_heads,
            intermediate_size=text.intermediate_size,
            vocab_size=text.vocab_size,
            max_positions=text.max_position_embeddings,
            layer_norm_eps=text.layer_norm_eps,
        ),
        embed_dim=embed_dim,
    )


def _require_sane(path: Path, processor: Any) -> None:
    """Raise CheckpointError for sizes and factors that would take all memory, or crash."""
    stated = path / "preprocessor_config.json"
    for name in ("size", "crop_size"):
        for field, pixels in dict(getattr(processor, name, None) or {}).items():
            if pixels is not None and not (isinstance(pixels, int) and 0 < pixels <= 2**14):
                raise CheckpointError(
                    f"{stated}: {name}.{field}: {pixels!r:.60} is not a number of pixels up to {2**14}"
                )
    for name in ("image_mean", "image_std"):
        values = getattr(processor, name, None)
        numbers = values if isinstance(values, list | tuple) else [values]
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in numbers):
            raise CheckpointError(f"{stated}: {name}: {values!r:.60} is not a list of numbers")


def _require_fit(path: Path, processor: Any, image_size: int) -> None:
    """Images of any shape must come out as the square that the model takes."""
    for size in ((48, 32), (32, 48)):
        with _explained(f"{path}: preprocessor_config.json cannot be used"):
            pixels = processor(images=Image.new("RGB", size), return_tensors="pt")["pixel_values"]
        if not pixels.isfinite().all():
            raise CheckpointError(
                f"{path}: preprocessor_config.json makes pixels that are not finite; check image_std, rescale_factor"
            )
        shape = tuple(pixels.shape[1:])
        if shape != (3, image_size, image_size):
            raise CheckpointError(
                f"{path}: preprocessor_config.json makes pixels of shape {list(shape)}, "
                f"but the model takes [3, {image_size}, {image_size}]"
            )


def _require_words(path: Path, tokenizer: Any) -> None:
    """Without its files transformers makes a tokenizer that has no words, and says nothing."""
    with _explained(f"{path}: its tokenizer cannot be used"):
        one, other = (tokenizer(word)["input_ids"] for word in ("in", "on"))
    if one == other:
        raise CheckpointError(
            f"{path}: its tokenizer does not tell 'in' from 'on'; tokenizer.json (or the vocabulary files) is missing "
            f"from the folder or damaged"
        )
