"""The image encoder: timm's VisionTransformer, whose parameter names are the official checkpoints'.

In: normalised pixels [batch, 3, S, S]. Out: every token after the final norm [batch, 1 + (S / 16)^2, width], class
token first (BLIP, section 3.1; the reference uses all tokens, never a pooled one).
"""

from functools import partial

from timm.models import checkpoint_seq
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from blipbench.models.config import VisionConfig


class ImageEncoder(VisionTransformer):
    """A pre-norm ViT without a classification head. LayerNorm's epsilon is 1e-6, as in the reference.

    With `gradient_checkpointing` a block's activations are not kept for the backward pass but computed again.
    `first_blocks` and `last_blocks` are `forward` in two steps, for training where the first blocks are frozen.
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
        self.frozen_blocks = 0

    def freeze(self, blocks: int) -> None:
        """Freeze the embeddings and the first `blocks` blocks, and the final norm too if these are all blocks."""
        self.frozen_blocks = blocks
        trained = set(self.blocks[blocks:].parameters())
        if trained:
            trained |= set(self.norm.parameters())
        for parameter in set(self.parameters()) - trained:
            parameter.requires_grad_(False)

    def forward(self, pixels: Tensor) -> Tensor:  # type: ignore[override]
        return self.forward_features(pixels)  # [batch, tokens, width]

    def first_blocks(self, pixels: Tensor) -> Tensor:
        """The part that `freeze` froze: pixels -> tokens [batch, tokens, width] that `last_blocks` takes."""
        tokens = self.norm_pre(self.patch_drop(self._pos_embed(self.patch_embed(pixels))))
        return self.blocks[: self.frozen_blocks](tokens)

    def last_blocks(self, tokens: Tensor) -> Tensor:
        """The rest, the final norm included: image_embeds [batch, tokens, width]."""
        blocks = self.blocks[self.frozen_blocks :]
        return self.norm(checkpoint_seq(blocks, tokens) if self.grad_checkpointing else blocks(tokens))
