"""The sizes of a BLIP model: what `configs/models/*.yaml` states and what a checkpoint's tensors imply.

All sizes but the two head counts and `layer_norm_eps` can be read off a state dict (see `checkpoint.py`). The rates of
dropout and drop path are not sizes. A training run sets them. They act in training mode only and are never written.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationInfo, field_validator

_Rate = Annotated[float, Field(ge=0.0, lt=1.0, exclude=True)]

# The upper bounds are far above any model. They keep a damaged file from asking for endless layers.
_Width = Annotated[int, Field(gt=0, le=2**16)]
_Count = Annotated[int, Field(gt=0, le=2**10)]  # of layers, heads, pixels of a patch
_Length = Annotated[int, Field(gt=0, le=2**24)]  # of the vocabulary, of a text


class _Sizes(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Transformer(_Sizes):
    width: _Width
    depth: _Count
    num_heads: _Count

    @field_validator("num_heads")
    @classmethod
    def _heads_divide_the_width(cls, value: int, info: ValidationInfo) -> int:
        if (width := info.data.get("width")) is not None and width % value:
            raise ValueError(f"{value} heads do not divide the width, {width}")
        return value


class VisionConfig(_Transformer):
    """The ViT: `image_size` and `patch_size` in pixels."""

    image_size: Annotated[int, Field(gt=0, le=2**14)]
    patch_size: _Count = 16
    drop_path: _Rate = 0.0  # of the last block; 0 at the first, linear between (stochastic depth, Huang 2016)

    @property
    def num_tokens(self) -> int:
        """Patches plus the class token."""
        return (self.image_size // self.patch_size) ** 2 + 1


class TextConfig(_Transformer):
    """The text transformer (BERT layout); `vocab_size` counts [DEC] and [ENC]."""

    width: _Width = 768
    depth: _Count = 12
    num_heads: _Count = 12
    intermediate_size: Annotated[int, Field(gt=0, le=2**18)] = 3072
    vocab_size: _Length = 30524
    max_positions: _Length = 512
    layer_norm_eps: PositiveFloat = 1e-12
    dropout: _Rate = 0.0  # of the embeddings, of attention probabilities and of what every residual adds


class ModelConfig(_Sizes):
    """A whole model. `embed_dim` is the width of the ITC projections."""

    name: str
    vision: VisionConfig
    text: TextConfig = TextConfig()
    embed_dim: _Width = 256
