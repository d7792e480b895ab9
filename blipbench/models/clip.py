"""CLIP and SigLIP, dual encoders that transformers brings: from a folder to a model with its own preprocessing.

In: a transformers folder whose config.json says model_type clip or siglip. Out: a `ClipCheckpoint`: the model in
float32, its tokenizer and its image processor. No code of the folder is run.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from PIL import Image
from safetensors import SafetensorError

from blipbench.errors import CheckpointError
from blipbench.models.checkpoint import count_parameters, require_finite
from blipbench.models.checkpoint_files import hash_weights, read_json
from blipbench.models.config import ModelConfig, TextConfig, VisionConfig

Family = Literal["clip", "siglip"]
FAMILIES: tuple[Family, ...] = get_args(Family)

CAPABILITIES = frozenset({"embed_images", "embed_texts"})

# What from_pretrained is known to raise on files that are absent, damaged, of another model or in want of a package.
_LOADING_ERRORS = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError, SafetensorError)


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

    Raises CheckpointError where config.json is no JSON object.
    """
    file = path / "config.json"
    if not file.is_file():
        return None
    stated = read_json(file, f"{path}: its config.json").get("model_type")
    return next((family for family in FAMILIES if family == stated), None)


def load_clip(path: Path) -> ClipCheckpoint:
    """Read the folder of a dual encoder. Raises CheckpointError where a part is missing, damaged or does not fit."""
    from transformers import AutoImageProcessor, AutoTokenizer  # takes seconds to import, and few runs need it

    family = family_of(path)
    if family is None:
        raise CheckpointError(f"{path}: config.json is missing or does not say model_type {' or '.join(FAMILIES)}")
    sha256 = hash_weights(path)
    model = _load_model(path, family)
    # Pillow's resizing, which these models were trained with; the other backend's differs in a few pixels.
    processor = _load_part(path, "image processor (preprocessor_config.json)", AutoImageProcessor, backend="pil")
    tokenizer = _load_part(path, "tokenizer", AutoTokenizer)
    config = _config_of(family, model.config)
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


def _load_model(path: Path, family: Family) -> Any:
    """The model in float32, with every weight from the file."""
    import torch
    from transformers import CLIPModel, SiglipModel
    from transformers.utils import logging

    logging.disable_progress_bar()  # it takes a second, and every rank would show one
    kind: Any = {"clip": CLIPModel, "siglip": SiglipModel}[family]
    try:
        model, report = kind.from_pretrained(path, local_files_only=True, dtype=torch.float32, output_loading_info=True)
    except _LOADING_ERRORS as error:
        raise CheckpointError(
            f"{path}: the weights cannot be loaded as {kind.__name__} ({_first_line(error)})"
        ) from error
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
    try:
        return loader.from_pretrained(path, local_files_only=True, **options)
    except _LOADING_ERRORS as error:
        way_out = "; run `pip install blipbench[siglip]`" if isinstance(error, ImportError) else ""
        raise CheckpointError(f"{path}: its {what} cannot be loaded ({_first_line(error)}){way_out}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


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


def _require_fit(path: Path, processor: Any, image_size: int) -> None:
    """Images of any shape must come out as the square that the model takes."""
    for size in ((48, 32), (32, 48)):
        shape = tuple(processor(images=Image.new("RGB", size), return_tensors="pt")["pixel_values"].shape[1:])
        if shape != (3, image_size, image_size):
            raise CheckpointError(
                f"{path}: preprocessor_config.json makes pixels of shape {list(shape)}, "
                f"but the model takes [3, {image_size}, {image_size}]"
            )


def _require_words(path: Path, tokenizer: Any) -> None:
    """Without its files transformers makes a tokenizer that has no words, and says nothing."""
    one, other = (tokenizer(word)["input_ids"] for word in ("in", "on"))
    if one == other:
        raise CheckpointError(
            f"{path}: its tokenizer does not tell 'in' from 'on'; tokenizer.json (or the vocabulary files) is missing "
            f"from the folder or damaged"
        )
