"""The parts of BLIP that can be timed, by name: `blipbench profile --part NAME`."""

import dataclasses
import difflib
from collections.abc import Callable, Mapping

from blipbench.device import Runtime
from blipbench.errors import UsageError
from blipbench.profiling import encoders, pairs, training_steps
from blipbench.profiling.models import Models
from blipbench.profiling.shapes import Shapes
from blipbench.profiling.work import Work

Make = Callable[[Models, Runtime, Shapes], Work]

WAYS = ("fast", "plain", "transformers")


@dataclasses.dataclass(frozen=True)
class Part:
    """`noun` is what is counted. `ways` are how it can be done: blipbench's fast path, the plain padded model in
    blipbench, and transformers' classes."""

    noun: str
    about: str
    ways: Mapping[str, Make]
    trains: bool = False


def _part(noun: str, about: str, fast: Make, plain: Make | None = None, transformers: Make | None = None) -> Part:
    ways = {"fast": fast, "plain": plain, "transformers": transformers}
    return Part(noun, about, {name: make for name, make in ways.items() if make is not None})


PARTS: dict[str, Part] = {
    "patch-embed": _part("images", "the image encoder's first layer", encoders.patch_embed),
    "vit": _part("images", "the whole image encoder", encoders.vit, encoders.vit_plain, encoders.vit_transformers),
    "vit-attention": _part("images", "self-attention of one block of the image encoder", encoders.vit_attention),
    "vit-mlp": _part("images", "the MLP of one block of the image encoder", encoders.vit_mlp),
    "text-encoder": _part(
        "texts",
        "ITC embeddings of texts",
        encoders.text_encoder,
        encoders.text_encoder_plain,
        encoders.text_encoder_transformers,
    ),
    "self-attention": _part("tokens", "packed self-attention of one text layer", encoders.self_attention),
    "cross-keys-values": _part("images", "the images' keys and values for all text layers", encoders.cross_keys_values),
    "cross-attention": _part("tokens", "the queries of one text layer's cross-attention", encoders.cross_attention),
    "text-mlp": _part("tokens", "the MLP of one text layer", encoders.text_mlp),
    "add-norm": _part("tokens", "one addition with LayerNorm", encoders.add_norm_part),
    "itm": _part("pairs", "ITM scores of images with texts", pairs.itm, pairs.itm_plain, pairs.itm_transformers),
    "decode-step": _part("tokens", "one step of beam search, 3 beams an image", pairs.decode_step),
    "caption": _part("images", "captions of 20 tokens by beam search", pairs.caption),
    "vqa-rank": _part("questions", "128 of 3,000 answers ranked", pairs.vqa_rank),
    "nlvr": _part("statements", "statements about two images each", pairs.nlvr),
    "decode": _part("images", "JPEGs of 640 x 480 pixels decoded by one process", pairs.decode),
    "train-retrieval": Part(
        "pairs",
        "a training step of retrieval",
        {"fast": training_steps.train_retrieval, "transformers": training_steps.transformers_retrieval},
        trains=True,
    ),
    "train-pretrain": Part(
        "pairs",
        "a training step of pre-training",
        {"fast": training_steps.train_pretrain, "transformers": training_steps.transformers_pretrain},
        trains=True,
    ),
    "end-to-end": _part("pairs", "from JPEGs to ITM scores", pairs.end_to_end),
}


def find_part(name: str) -> Part:
    """Raises UsageError for a name that is none, with the nearest ones."""
    if name in PARTS:
        return PARTS[name]
    near = difflib.get_close_matches(name, PARTS, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"use one of {', '.join(PARTS)}"
    raise UsageError(f"--part {name}: there is no such part; {hint}")
