"""Builds the objective of a training run from its spec. Only this module knows which class belongs to which kind."""

from torch import nn

from blipbench.errors import UsageError
from blipbench.models.config import ModelConfig
from blipbench.models.tokenizer import Tokenizer
from blipbench.models.vit import ImageEncoder
from blipbench.training.contrastive import ContrastiveSettings
from blipbench.training.objectives import (
    CaptionObjective,
    NlvrObjective,
    PretrainObjective,
    RetrievalObjective,
    VqaObjective,
)
from blipbench.training.spec import TrainSpec


def build_objective(spec: TrainSpec, config: ModelConfig, tokenizer: Tokenizer) -> nn.Module:
    """The objective with fresh weights, drawn from torch's generator.

    Raises UsageError if `freeze_blocks` is larger than the number of blocks of the image encoder.
    """
    depth = config.vision.depth
    if spec.freeze_blocks > depth:
        raise UsageError(f"freeze_blocks: {spec.freeze_blocks}, but the image encoder has a depth of {depth}")
    objective = _objective(spec, config, tokenizer)
    frozen = depth if spec.freeze_vision else spec.freeze_blocks
    if frozen:
        for encoder in objective.modules():
            if isinstance(encoder, ImageEncoder):
                encoder.freeze(frozen)
    return objective


def _objective(spec: TrainSpec, config: ModelConfig, tokenizer: Tokenizer) -> nn.Module:
    dec_id, enc_id = tokenizer.dec_id, tokenizer.enc_id
    checkpointing = spec.gradient_checkpointing
    config = regularised(config, spec.dropout, spec.drop_path)
    if spec.kind == "caption":
        return CaptionObjective(
            config,
            dec_id=dec_id,
            prompt_length=prompt_length(spec, tokenizer),
            gradient_checkpointing=checkpointing,
        )
    if spec.kind == "vqa":
        return VqaObjective(
            config,
            enc_id=enc_id,
            dec_id=dec_id,
            gradient_checkpointing=checkpointing,
        )
    if spec.kind == "nlvr":
        return NlvrObjective(config, enc_id=enc_id, gradient_checkpointing=checkpointing)
    assert spec.queue_size is not None  # the spec's own check
    settings = ContrastiveSettings(
        enc_id, queue_size=spec.queue_size, momentum=spec.momentum, gradient_checkpointing=checkpointing
    )
    if spec.kind == "pretrain":
        return PretrainObjective(config, settings, dec_id=dec_id, neighbours=None if spec.itc else spec.neighbours)
    return RetrievalObjective(config, settings, negative_all_rank=spec.negative_all_rank)


def regularised(config: ModelConfig, dropout: float, drop_path: float) -> ModelConfig:
    """The same sizes with the rates of a training run: dropout of the text layers, drop path of the ViT's."""
    vision = config.vision.model_copy(update={"drop_path": drop_path})
    text = config.text.model_copy(update={"dropout": dropout})
    return config.model_copy(update={"vision": vision, "text": text})


def prompt_length(spec: TrainSpec, tokenizer: Tokenizer) -> int:
    """The number of tokens of the prompt, with [DEC] and without [SEP]. The loss ignores these positions."""
    return len(tokenizer.encode([spec.data.prompt], spec.data.max_tokens)[0]) - 1
