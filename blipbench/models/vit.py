"""The image encoder: timm's VisionTransformer, whose parameter names are the official checkpoints'.

In: normalised pixels [batch, 3, S, S]. Out: every token after the final norm [batch, 1 + (S / 16)^2, width], class
token first (BLIP, section 3.1; the reference uses all tokens, never a pooled one).
"""

from functools import partial

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from blipbench.models.config import VisionConfig


class ImageEncoder(VisionTransformer):
    """A pre-norm ViT without a classification head. LayerNorm's epsilon is 1e-6, as in the reference.

    With `gradient_checkpointing` a block's activations are not kept for the backward pass but computed again.
    """

    def __init__(self, config: VisionConfig, gradient_checkpointing: bool = False) -> None:
        super().__init__(
            img_size=config.image_size,
            patch_size=config.patch_size,
            embed_dim=config.width,
            depth=config.depth,
            num_heads=config.num_heads,
            num_classes=0,
            global_pool="",
            qkv_bias=True,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            drop_path_rate=config.drop_path,
        )
        self.set_grad_checkpointing(gradient_checkpointing)

    def forward(self, pixels: Tensor) -> Tensor:  # type: ignore[override]
        return self.forward_features(pixels)  # [batch, tokens, width]
