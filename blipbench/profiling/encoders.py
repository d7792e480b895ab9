"""The parts of the image encoder and of the text encoder: what each does, its FLOPs and the bytes it must move.

A layer's parts (vit-attention, vit-mlp, self-attention, cross-attention, text-mlp, add-norm) are of one layer.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from blipbench.data.images import normalise
from blipbench.device import Runtime
from blipbench.inference import flops
from blipbench.inference.attention import Context, OneContext, one_context_is_faster
from blipbench.inference.kernels import add_norm
from blipbench.inference.packing import Chunk, TextBank
from blipbench.inference.text import PackedLayer
from blipbench.profiling.models import Models
from blipbench.profiling.shapes import Shapes, lengths_of, padded_texts, random_pixels, random_texts, random_tokens
from blipbench.profiling.work import Work


def patch_embed(models: Models, runtime: Runtime, shapes: Shapes) -> Work:
    embed = models.retrieval(runtime).vision.encoder.patch_embed
    pixels = normalise(random_pixels(shapes, runtime.device)).to(runtime.dtype)
    vision = models.config.vision
    weights = 3 * vision.patch_size**2 * vision.width + vision.width
    out = shapes.batch * (vision.num_tokens - 1) * vision.width
    return _work(
        lambda: embed(pixels),
        shapes.batch,
        shapes.batch * flops.patch_embed_flops(vision),
        weights,
        pixels.numel() + out,
        runtime,
    )


def vit(models: Models, runtime: Runtime, shapes: Shapes) -> Work:
    encode = models.retrieval(runtime).vision.encode
    return _vit(lambda pixels: encode(pixels), models, runtime, shapes)


def vit_plain(models: Models, runtime: Runtime, shapes: Shapes) -> Work:
    encoder = models.plain(runtime).visual_encoder
    return _vit(lambda pixels: encoder(normalise(pixels).to(runtime.dtype)), models, runtime, shapes)


def vit_transformers(models: Models, runtime: Runtime, shapes: Shapes) -> Work:
    encoder = models.transformers(runtime).vision_model
    return _vit(lambda pixels: encoder(normalise(pixels).to(runtime.dtype))[0], models, runtime, shapes)


def _vit(call: Callable[[Tensor], Tensor], models: Models, runtime: Runtime, shapes: Shapes) -> Work:
    pixels, vision = random_pixels(shapes, runtime.device), models.config.vision
    weights = _parameters(models.retrieval(runtime).plain.visual_encoder)
    out = shapes.batch * vision.num_tokens * vision.width
    needed = shapes.batch * flops.image_flops(vision)
    work = _work(lambda: call(pixels), shapes.batch, needed, weights, out, runtime)
    return Work(work.call, work.items, work.flops, work.moved + pixels.nbytes, weights)


def vit_attention(models: Models, runtime: Runtime, shapes: Shapes) -> Work:
    block, vision = models.block(runtime), models.config.vision
    x = random_tokens(shapes.batch, vision.num_tokens, vision.width, runtime.dtype, runtime.device)
    weights = 4 * vision.width**2 + 4 * vision.width
    needed = shapes.batch * flops.vit_attention_flops(vision)
    return _work(lambda: block.attn(x), shapes.batch, needed, weights, 2 * x.numel(), runtime)


def vit_mlp(models: Models, runtime: Runtime, shapes: Shapes) -> Work:
    block, vision = models.block(runtime), models.config.vision
    x = random_tokens(shapes.batch, vision.num_tokens, vision.width, runtime.dtype, runtime.device)
    weights = 8 * vision.width**2 + 5 * vision.width
    needed = shapes.batch * flops.vit_mlp_flops(vision)
    return _work(lambda: block.mlp(x), shapes.batch, needed, weights, 2 * x.numel(), runtime)


def text_encoder(models: Models, runtime: Runtime, shapes: Shapes) -> Work:
    runner = models.retrieval(runtime)
    bank = runner.bank(random_texts(shapes, models.tokenizer.cls_id, models.tokenizer))
    every = np.arange(len(bank))
    return _texts(lambda: torch.from_numpy(runner.embed_texts(bank, every)), models, runtime, shapes)


def text_encoder_plain(models: Models, runtime: Runtime, shapes: Shapes) -> Work:
    model, (ids, mask) = (
        models.plain(runtime),
        padded_texts(shapes, models.tokenizer.cls_id, models.tokenizer, runtime.device),
    )
    return _texts(lambda: model.project_texts(ids, mask), models, runtime, shapes)


def text_encoder_transformers(models: Models, runtime: Runtime, shapes: Shapes) -> Work:
    model, (ids, mask) = (
        models.transformers(runtime),
        padded_texts(shapes, models.tokenizer.cls_id, models.tokenizer, runtime.device),
    )

    def call() -> Tensor:
        states = model.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return torch.nn.functional.normalize(model.text_proj(states[:, 0]), dim=-1)

    return _texts(call, models, runtime, shapes)


def _texts(call: Callable[[], Tensor], models: Models, runtime: Runtime, shapes: Shapes) -> Work:
    config, lengths = models.config, lengths_of(shapes)
    text = config.text
    layer = 4 * text.width**2 + 2 * text.width * text.intermediate_size
    weights = text.depth * layer + text.width * config.embed_dim
    head = 2 * text.width * config.embed_dim * shapes.texts
    moved = int(lengths.sum()) * text.width + shapes.texts * config.embed_dim
    needed = float(flops.text_flops(config, lengths).sum()) + head
    return _work(call, shapes.texts, needed, weights, moved, runtime)


def self_attention(models: Models, runtime: Runtime, shapes: Shapes) -> Work:
    layer, chunk, hidden = _layer(models, runtime, shapes)
    heads = models.config.text.num_heads

    def call() -> Tensor:
        query, key, value = layer.qkv(hidden).chunk(3, dim=-1)
        return layer.self_out(chunk.every_token.attend(query, key, value, heads))

    text = models.config.text
    needed = flops.self_attention_flops(models.config, lengths_of(shapes))
    return _work(
        call,
        chunk.num_tokens,
        needed,
        4 * text.width**2 + 4 * text.width,
        2 * chunk.num_tokens * models.config.text.width,
        runtime,
    )


def cross_attention(models: Models, runtime: Runtime, shapes: Shapes) -> Work:
    """The queries of one layer, whose keys and values are ready."""
    runner, (layer, chunk, hidden) = models.retrieval(runtime), _layer(models, runtime, shapes)
    config, tokens = models.config, models.config.vision.num_tokens
    image = random_tokens(shapes.batch, tokens, config.vision.width, runtime.dtype, runtime.device)
    key, value = runner.text_encoder.keys_values(image.flatten(0, 1))[0]
    queries = np.bincount(shapes.owner[chunk.order], chunk.lengths).astype(int).tolist()  # of each image
    contexts: list[Context]
    if one_context_is_faster(runtime.device):  # a run matches one image at a time there
        heads = config.text.num_heads
        contexts = [OneContext(k, v, heads) for k, v in zip(key.split(tokens), value.split(tokens), strict=True)]
    else:
        spans = chunk.reading(shapes.owner[chunk.order], [tokens] * shapes.batch, first_only=False)
        contexts, queries = [spans.context(key, value, config.text.num_heads)], [len(hidden)]
    queries[-1] += len(hidden) - sum(queries)  # filler

    def call() -> Tensor:
        asked = layer.cross_query(hidden).split(queries)
        return layer.cross_out(torch.cat([context(some) for context, some in zip(contexts, asked, strict=True)]))

    needed = flops.cross_attention_flops(config, lengths_of(shapes), tokens)
    weights = 2 * config.text.width**2 + 2 * config.text.width
    moved = 2 * chunk.num_tokens * models.config.text.width + key.numel() + value.numel()
    return _work(call, chunk.num_tokens, needed, weights, moved, runtime)


def cross_keys_values(models: Models, runtime: Runtime, shapes: Shapes) -> Work:
    """The keys and values of the images in all layers, in one product."""
    runner, config = models.retrieval(runtime), models.config
    tokens = config.vision.num_tokens
    image = random_tokens(shapes.batch, tokens, config.vision.width, runtime.dtype, runtime.device).flatten(0, 1)
    columns = 2 * config.text.depth * config.text.width
    return _work(
        lambda: runner.text_encoder.context_keys_values(image),
        shapes.batch,
        shapes.batch * flops.context_flops(config, tokens),
        columns * (config.vision.width + 1),
        image.numel() + len(image) * columns,
        runtime,
    )


def text_mlp(models: Models, runtime: Runtime, shapes: Shapes) -> Work:
    layer, chunk, hidden = _layer(models, runtime, shapes)
    text = models.config.text
    weights = 2 * text.width * text.intermediate_size + text.intermediate_size + text.width
    needed = chunk.num_tokens * 4.0 * text.width * text.intermediate_size
    return _work(
        lambda: layer.down(layer.up(hidden)),
        chunk.num_tokens,
        needed,
        weights,
        2 * chunk.num_tokens * models.config.text.width,
        runtime,
    )


def add_norm_part(models: Models, runtime: Runtime, shapes: Shapes) -> Work:
    layer, chunk, hidden = _layer(models, runtime, shapes)
    residual = torch.zeros_like(hidden)  # on a CPU the sum is in place, so that it must not grow
    width = models.config.text.width
    return _work(
        lambda: add_norm(hidden, residual, layer.norm),
        chunk.num_tokens,
        0.0,
        2 * width,
        3 * chunk.num_tokens * models.config.text.width,
        runtime,
    )


def _layer(models: Models, runtime: Runtime, shapes: Shapes) -> tuple[PackedLayer, Chunk, Tensor]:
    """A layer in the middle of the encoder, the texts as one chunk of tokens sorted by image, and their states."""
    runner = models.retrieval(runtime)
    bank = TextBank(random_texts(shapes, models.tokenizer.enc_id, models.tokenizer), runtime.device)
    (chunk,) = bank.chunks(np.arange(len(bank)), 2**62, shapes.owner)
    hidden = random_tokens(1, len(chunk.tokens), models.config.text.width, runtime.dtype, runtime.device)[0]
    return runner.text_encoder.layers[len(runner.text_encoder.layers) // 2], chunk, hidden


def _parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _work(
    call: Callable[[], Tensor], items: int, needed: float, weights: int, activations: int, runtime: Runtime
) -> Work:
    return Work(call, items, float(needed), float(weights + activations) * runtime.dtype.itemsize, weights)
