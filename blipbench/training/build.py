"""From a training run's spec to its objective: the one place that knows which kind is which module."""

from torch import nn

from blipbench.models.config import ModelConfig
from blipbench.models.tokenizer import Tokenizer
from blipbench.training.objectives import (
    CaptionObjective,
    NlvrObjective,
    PretrainObjective,
    RetrievalObjective,
    VqaObjective,
)
from blipbench.training.spec import TrainSpec


def build_objective(spec: TrainSpec, config: ModelConfig, tokenizer: Tokenizer) -> nn.Module:
    """The objective with fresh weights, drawn from torch's generator."""
    dec_id, enc_id = tokenizer.dec_id, tokenizer.enc_id
    dropout, drop_path, checkpointing = spec.dropout, spec.drop_path, spec.gradient_checkpointing
    if spec.kind == "caption":
        return CaptionObjective(
            config,
            dec_id=dec_id,
            prompt_length=prompt_length(spec, tokenizer),
            dropout=dropout,
            drop_path=drop_path,
            gradient_checkpointing=checkpointing,
        )
    if spec.kind == "vqa":
        return VqaObjective(
            config,
            enc_id=enc_id,
            dec_id=dec_id,
            dropout=dropout,
            drop_path=drop_path,
            gradient_checkpointing=checkpointing,
        )
    if spec.kind == "nlvr":
        return NlvrObjective(
            config, enc_id=enc_id, dropout=dropout, drop_path=drop_path, gradient_checkpointing=checkpointing
        )
    assert spec.queue_size is not None  # the spec's own check
    if spec.kind == "pretrain":
        return PretrainObjective(
            config,
            enc_id=enc_id,
            dec_id=dec_id,
            queue_size=spec.queue_size,
            momentum=spec.momentum,
            dropout=dropout,
            drop_path=drop_path,
            gradient_checkpointing=checkpointing,
        )
    return RetrievalObjective(
        config,
        enc_id=enc_id,
        queue_size=spec.queue_size,
        momentum=spec.momentum,
        negative_all_rank=spec.negative_all_rank,
        dropout=dropout,
        drop_path=drop_path,
        gradient_checkpointing=checkpointing,
    )


def prompt_length(spec: TrainSpec, tokenizer: Tokenizer) -> int:
    """Tokens of the prompt with [DEC] before it, without [SEP]: the positions that are no targets."""
    return len(tokenizer.encode([spec.data.prompt], spec.data.max_tokens)[0]) - 1
