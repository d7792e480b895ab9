"""Fast BLIP reasoning about pairs of images on one device, for the NLVR2 protocol.

    runner.encode_images(pixels)                     uint8 pixels -> image tokens
    runner.reason(left, right, input_ids, pair_of)   -> logits [sentences, 2] (false, true)

The results equal those of models/nlvr.py. Sentences are packed without padding. The sentences of a pair share its keys
and values, which are projected once per layer for all pairs of a batch. Both output projections and the average or
merging layer after them are one product. The last layer computes only [ENC]. `runner.plain` is the model in float32.
"""

import copy
from collections.abc import Sequence

import numpy.typing as npt
import torch
from torch import Tensor

from blipbench.data.images import normalise
from blipbench.device import Runtime, full_float32, upload
from blipbench.inference import flops
from blipbench.inference.attention import Indices, Spans
from blipbench.inference.kernels import add_norm
from blipbench.inference.linear import FastLinear, fuse, make_fast
from blipbench.inference.packing import TextBank, pad
from blipbench.inference.text import PackedBlock, embed
from blipbench.inference.vision import FastImageEncoder
from blipbench.models.nlvr import BlipNlvr, TwinLayer, TwinOutput
from blipbench.models.tokenizer import Tokenizer


class _TwinLayer(PackedBlock):
    """One layer in `dtype`, built from the float32 layer."""

    def __init__(self, layer: TwinLayer, num_heads: int, dtype: torch.dtype) -> None:
        fast = copy.deepcopy(layer).to(dtype)
        super().__init__(fast.attention, fast.intermediate, fast.output, num_heads)
        left, right = fast.crossattention.self0, fast.crossattention.self1
        self.cross_query = fuse(left.query, right.query)  # [tokens, 2 * width]
        self.key_values = fuse(left.key, left.value), fuse(right.key, right.value)
        weight, bias = fold(layer.crossattention.output)
        self.cross_out = FastLinear(weight.to(dtype), bias.to(dtype))
        self.cross_norm = fast.crossattention.output.LayerNorm

    def cross_attend(self, hidden: Tensor, images: tuple[Tensor, Tensor], spans: Spans) -> Tensor:
        """hidden: [queries, width]. images: left and right tokens of all pairs, each [pairs * T, image_width]."""
        found = []
        for query, image, project in zip(
            self.cross_query(hidden).chunk(2, dim=-1), images, self.key_values, strict=True
        ):
            key, value = project(image).chunk(2, dim=-1)
            found.append(spans.attend(query, key, value, self.num_heads))
        return add_norm(self.cross_out(torch.cat(found, dim=-1)), hidden, self.cross_norm)


def fold(output: TwinOutput) -> tuple[Tensor, Tensor]:
    """Both images' output projections and the average or merging layer as one linear layer [2 * width] -> [width].

    The weights are multiplied in float64, so that the product is as exact as the weights.
    """
    weight = torch.block_diag(output.dense0.weight.double(), output.dense1.weight.double())  # [2 width, 2 width]
    bias = torch.cat([output.dense0.bias, output.dense1.bias]).double()
    if output.merge_layer is None:
        left, right = weight.chunk(2)
        return ((left + right) / 2).float(), bias.view(2, -1).mean(0).float()
    merge = output.merge_layer.weight.double()  # [width, 2 width]
    return (merge @ weight).float(), (merge @ bias + output.merge_layer.bias.double()).float()


class NlvrRunner:
    capabilities = frozenset({"reason"})

    def __init__(self, model: BlipNlvr, tokenizer: Tokenizer, runtime: Runtime) -> None:
        self.config = model.config
        self.tokenizer = tokenizer
        self.runtime = runtime
        self.plain = model.eval().requires_grad_(False).to(runtime.device)
        text = self.plain.text_encoder
        modules: Sequence[TwinLayer] = list(text.encoder.layer)  # type: ignore[arg-type]
        self.layers = [_TwinLayer(layer, self.config.text.num_heads, runtime.dtype) for layer in modules]
        self.embeddings = copy.deepcopy(text.embeddings).to(runtime.dtype)
        self.head = copy.deepcopy(self.plain.cls_head).to(runtime.dtype)
        make_fast(self.head)
        vision = copy.deepcopy(self.plain.visual_encoder).to(runtime.dtype)
        self.vision = FastImageEncoder(vision, self.config.vision, runtime)

    def tokenize(self, sentences: list[str]) -> list[list[int]]:
        """Token ids of each sentence, from [ENC] to [SEP], truncated only to the model's number of positions."""
        ids = self.tokenizer.encode(sentences, self.config.text.max_positions)
        return [[self.tokenizer.enc_id, *sentence[1:]] for sentence in ids]

    def encode_images(self, pixels: Tensor) -> Tensor:
        """uint8 [n, 3, S, S] -> tokens [n, T, image_width]."""
        return self.vision.encode(pixels)

    @torch.inference_mode()
    def reason(self, left: Tensor, right: Tensor, input_ids: list[list[int]], pair_of: Indices) -> Tensor:
        """Logits [n, 2] (false, true) of n sentences, float32, on the device. Sentence i is about pair `pair_of[i]`.

        left, right: image tokens of the pairs, [pairs, T, image_width]. Does not wait for a GPU.
        """
        bank = TextBank(input_ids, self.runtime.device)
        chunk = bank.whole()
        owner, lengths = pair_of[chunk.texts], [left.shape[1]] * len(left)
        of_tokens, of_firsts = (chunk.reading(owner, lengths, first_only) for first_only in (False, True))
        images = left.flatten(0, 1), right.flatten(0, 1)  # [pairs * T, image_width]
        hidden = embed(self.embeddings, bank.input_ids[chunk.tokens], chunk)  # [S', width]
        for i, layer in enumerate(self.layers):
            is_last = i == len(self.layers) - 1
            hidden = layer.self_attend(hidden, chunk, first_only=is_last)  # [S', width]; in the last layer [n', width]
            hidden = layer.cross_attend(hidden, images, of_firsts if is_last else of_tokens)
            hidden = layer.mlp(hidden)
        logits = torch.empty(len(input_ids), 2, device=bank.device)
        logits[upload(chunk.order, bank.device)] = self.head(hidden)[: len(chunk.texts)].float()
        return logits

    @full_float32()
    @torch.inference_mode()
    def plain_logits(self, left: Tensor, right: Tensor, input_ids: list[list[int]]) -> Tensor:
        """Judge n sentences about one pair (uint8 pixels [3, S, S] each) as the reference does.

        In float32, with padding and masks, and the images' states repeated for every sentence. Returns logits [n, 2] on
        the CPU.
        """
        device = self.runtime.device
        ids, mask = pad(input_ids, self.tokenizer.pad_id)
        images = self.plain.visual_encoder(normalise(torch.stack([left, right]).to(device)))  # [2, T, image_width]
        left_states, right_states = (image.expand(len(ids), -1, -1) for image in images)
        return self.plain(ids.to(device), mask.to(device), left_states, right_states).cpu()

    def image_flops(self) -> float:
        return self.vision.flops

    def pair_flops(self, lengths: npt.ArrayLike) -> float:
        """FLOPs of one pair's keys and values and of its sentences of these lengths, without the images."""
        tokens = self.vision.num_tokens
        sentences = flops.reason_flops(self.config, lengths, tokens).sum()
        return 2 * flops.context_flops(self.config, tokens) + float(sentences)
