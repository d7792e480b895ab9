"""The sizes of a BLIP model: what `configs/models/*.yaml` states and what a checkpoint's tensors imply.

All sizes but the two head counts and `layer_norm_eps` can be read off a state dict (see `checkpoint.py`). The rates of
dropout and drop path are no sizes: a training run sets them, they act in training mode alone and are never written.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

_Rate = Annotated[float, Field(ge=0.0, lt=1.0, exclude=True)]


class _Sizes(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class VisionConfig(_Sizes):
    """The ViT: `image_size` and `patch_size` in pixels."""

    width: PositiveInt
    depth: PositiveInt
    num_heads: PositiveInt
    image_size: PositiveInt
    patch_size: PositiveInt = 16
    drop_path: _Rate = 0.0  # of the last block; 0 at the first, linear between (stochastic depth, Huang 2016)

    @property
    def num_tokens(self) -> int:
        """Patches plus the class token."""
        return (self.image_size // self.patch_size) ** 2 + 1


class TextConfig(_Sizes):
    """The text transformer (BERT layout); `vocab_size` counts [DEC] and [ENC]."""

    width: PositiveInt = 768
    depth: PositiveInt = 12
    num_heads: PositiveInt = 12
    intermediate_size: PositiveInt = 3072
    vocab_size: PositiveInt = 30524
    max_positions: PositiveInt = 512
    layer_norm_eps: PositiveFloat = 1e-12
    dropout: _Rate = 0.0  # of the embeddings, of attention probabilities and of what every residual adds


class ModelConfig(_Sizes):
    """A whole model. `embed_dim` is the width of the ITC projections."""

    name: str
    vision: VisionConfig
    text: TextConfig = TextConfig()
    embed_dim: PositiveInt = 256
