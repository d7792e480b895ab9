"""One BLIP training step on random pictures and words, and transformers' forward and backward pass beside it.

transformers has both encoders, the ITM head and the captioner, but no momentum encoders, queues, hard negatives or
optimizer step. Its pass uses given negatives and omits the rest.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from transformers import BlipConfig, BlipForConditionalGeneration, BlipForImageTextRetrieval

from blipbench.device import Runtime
from blipbench.inference import flops
from blipbench.models.config import ModelConfig
from blipbench.models.layouts import transformers_config
from blipbench.models.med import TextEncoder
from blipbench.models.tokenizer import load_tokenizer
from blipbench.profiling.models import Models
from blipbench.profiling.shapes import Shapes
from blipbench.profiling.work import Work
from blipbench.training.batches import PairBatch
from blipbench.training.build import regularised
from blipbench.training.contrastive import ContrastiveSettings
from blipbench.training.objectives import PretrainObjective, RetrievalObjective

Kind = Literal["pretrain", "retrieval"]
LENGTHS = (9, 11, 12, 13, 13, 14, 12, 16)  # tokens of a caption with [CLS] and [SEP]; COCO's mean is 12.5
ALPHA = 0.4

Step = Callable[[], Tensor]  # returns the loss


def random_batch(config: ModelConfig, n: int, device: torch.device) -> PairBatch:
    generator = torch.Generator().manual_seed(0)
    size = config.vision.image_size
    lengths = torch.tensor([LENGTHS[i % len(LENGTHS)] for i in range(n)])
    mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
    ids = torch.randint(1, config.text.vocab_size - 2, mask.shape, generator=generator) * mask
    batch = PairBatch(torch.randn(n, 3, size, size, generator=generator), ids, mask, torch.arange(n))
    return PairBatch(*(tensor.to(device) for tensor in batch))


def train_retrieval(models: Models, runtime: Runtime, shapes: Shapes) -> Work:
    return _part("retrieval", models, runtime, shapes, our_step)


def train_pretrain(models: Models, runtime: Runtime, shapes: Shapes) -> Work:
    return _part("pretrain", models, runtime, shapes, our_step)


def transformers_retrieval(models: Models, runtime: Runtime, shapes: Shapes) -> Work:
    return _part("retrieval", models, runtime, shapes, transformers_pass)


def transformers_pretrain(models: Models, runtime: Runtime, shapes: Shapes) -> Work:
    return _part("pretrain", models, runtime, shapes, transformers_pass)


def _part(kind: Kind, models: Models, runtime: Runtime, shapes: Shapes, make: Callable[..., Step]) -> Work:
    config = models.config
    batch = random_batch(config, shapes.batch, runtime.device)
    step = make(kind, config, batch, "bf16" if runtime.precision == "bf16" else "fp32")
    needed = step_flops(kind, config, shapes.batch, batch.input_ids.shape[1])
    parameters = _parameters(config)
    # Weights in float32: read forwards and backwards, gradients and two moments read and written, momentum copies too.
    return Work(step, shapes.batch, needed, 4.0 * parameters * 11, parameters)


def step_flops(kind: Kind, config: ModelConfig, pairs: int, length: int) -> float:
    """FLOPs of a step on texts padded to `length`. A backward pass takes twice as many as its forward pass."""
    lengths, tokens = np.full(pairs, length), config.vision.num_tokens
    vit = pairs * flops.image_flops(config.vision)
    text = float(flops.text_flops(config, lengths).sum())
    context = pairs * flops.context_flops(config, tokens)
    three = np.full(3 * pairs, length)
    itm = float(flops.match_flops(config, three, tokens).sum()) + flops.self_attention_flops(config, three) + context
    trained = vit + text + itm
    if kind == "pretrain":
        width = config.text.width
        head = 2 * (width**2 + width * config.text.vocab_size)
        trained += float(flops.question_flops(config, lengths, tokens).sum()) + context + pairs * length * head
    pixels = pairs * flops.patch_embed_flops(config.vision)  # which need no gradient
    return 3 * trained - pixels + vit + text


def _parameters(config: ModelConfig) -> int:
    text, vision = config.text, config.vision
    layer = 6 * text.width**2 + 2 * text.width * vision.width + 2 * text.width * text.intermediate_size
    return text.depth * layer + text.vocab_size * text.width + 12 * vision.depth * vision.width**2


def our_step(
    kind: Kind,
    config: ModelConfig,
    batch: PairBatch,
    precision: Literal["fp32", "bf16"],
    *,
    gradient_checkpointing: bool = False,
    compiled: bool = False,
    shared_contexts: bool = True,
) -> Step:
    """Forward, backward and AdamW, as in the trainer.

    Without `shared_contexts`, each of ITM's pairs has a copy of its image, with separate keys and values.
    """
    device, n = batch.images.device, len(batch.images)
    torch.manual_seed(0)
    objective: PretrainObjective | RetrievalObjective
    config = regularised(config, dropout=0.1, drop_path=0.0)
    dec, enc = config.text.vocab_size - 2, config.text.vocab_size - 1
    settings = ContrastiveSettings(enc, queue_size=64 * n, gradient_checkpointing=gradient_checkpointing)
    if kind == "pretrain":
        objective = PretrainObjective(config, settings, dec_id=dec)
    else:
        objective = RetrievalObjective(config, settings)
    if not shared_contexts:
        objective.text_encoder = _CopiedContexts(objective.text_encoder)  # type: ignore[assignment]
    objective.to(device).train()
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, weight_decay=0.05, fused=True)
    forward = torch.compile(objective) if compiled else objective

    def step() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            losses = forward(batch, ALPHA)
        loss: Tensor = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


class _CopiedContexts(nn.Module):
    """A text encoder that gets a separate copy of the image for every text."""

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        context: Tensor | None = None,
        context_of: Tensor | None = None,
        first_only: bool = False,
    ) -> Tensor:
        if context is not None and context_of is not None:
            context = context[context_of]
        states: Tensor = self.encoder(input_ids, attention_mask, context, first_only=first_only)
        return states


def transformers_pass(kind: Kind, config: ModelConfig, batch: PairBatch, precision: Literal["fp32", "bf16"]) -> Step:
    """Forward and backward pass of both encoders, of ITM with three times the pairs and, in pre-training, of LM."""
    device, n = batch.images.device, len(batch.images)
    theirs = BlipConfig.from_dict(transformers_config(config, "itm", load_tokenizer(), 4 * config.vision.width))
    matching: Any = BlipForImageTextRetrieval(theirs).train()
    captioner: Any = BlipForConditionalGeneration(theirs).train() if kind == "pretrain" else None
    for model in (matching, captioner):
        if model is not None:
            model.to(device)
    if captioner is not None:  # one image encoder, whose tokens all three losses read
        captioner.vision_model = matching.vision_model
    own = torch.arange(n, device=device)
    negative = own.roll(1)
    images, texts = torch.cat([own, negative, own]), torch.cat([own, own, negative])
    labels = (torch.arange(3 * n, device=device) < n).long()

    def forward() -> Tensor:
        tokens = matching.vision_model(batch.images)[0]  # [n, T, width]
        states = matching.text_encoder(batch.input_ids, attention_mask=batch.attention_mask)[0]
        image_feats = nn.functional.normalize(matching.vision_proj(tokens[:, 0]), dim=-1)
        text_feats = nn.functional.normalize(matching.text_proj(states[:, 0]), dim=-1)
        logits = image_feats @ text_feats.t() / 0.07
        itc = (nn.functional.cross_entropy(logits, own) + nn.functional.cross_entropy(logits.t(), own)) / 2
        matched = matching.text_encoder(
            batch.input_ids[texts],
            attention_mask=batch.attention_mask[texts],
            encoder_hidden_states=tokens[images],
        )[0]
        loss: Tensor = itc + nn.functional.cross_entropy(matching.itm_head(matched[:, 0]), labels)
        if captioner is not None:
            targets = batch.input_ids.masked_fill(batch.attention_mask == 0, -100)
            loss = (
                loss
                + captioner.text_decoder(
                    input_ids=batch.input_ids,
                    attention_mask=batch.attention_mask,
                    encoder_hidden_states=tokens,
                    labels=targets,
                )[0].mean()
            )
        return loss

    def step() -> Tensor:
        for trained in (matching, captioner):
            if trained is not None:
                trained.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = forward()
        loss.backward()
        return loss.detach()

    return step
