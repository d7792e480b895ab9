"""Fast BLIP captioning on one device, for the captioning protocol.

    tokens = runner.encode_images(pixels)                     uint8 pixels -> image tokens
    runner.caption(tokens, prompt, settings, seeds)           -> one Caption per image

`runner.plain` is the same model in float32, for the self-check: `plain_tokens`, `plain_log_prob`, `plain_caption`.
"""

import copy
import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from blipbench.data.images import normalise
from blipbench.device import Runtime, full_float32
from blipbench.inference import flops
from blipbench.inference.decoding import FastDecoder, PlainDecoding, check_lengths, run_search, search
from blipbench.inference.search import Hypothesis, SearchSettings
from blipbench.inference.vision import FastImageEncoder
from blipbench.models.blip import BlipCaptioner
from blipbench.models.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Caption:
    """`text` excludes the prompt; `ids` start with [DEC] and the prompt.

    `log_prob` sums the model's log-probabilities of the tokens after the prompt, including [SEP], without penalties.
    """

    text: str
    ids: list[int]
    log_prob: float


class BlipCaptionRunner:
    capabilities = frozenset({"caption"})

    def __init__(self, model: BlipCaptioner, tokenizer: Tokenizer, runtime: Runtime) -> None:
        self.config = model.config
        self.tokenizer = tokenizer
        self.runtime = runtime
        self.plain = model.eval().requires_grad_(False).to(runtime.device)
        fast = copy.deepcopy(self.plain).to(runtime.dtype)
        self.decoder = FastDecoder(fast.text_decoder, tokenizer.sep_id, runtime)
        self.vision = FastImageEncoder(fast.visual_encoder, self.config.vision, runtime)

    def prompt_ids(self, prompt: str) -> list[int]:
        """[DEC] and the prompt's tokens, without the final [SEP], since the caption follows."""
        (ids,) = self.tokenizer.encode([prompt], self.config.text.max_positions)
        return [self.tokenizer.dec_id, *ids[1:-1]]

    def check(self, prompt: str, settings: SearchSettings) -> None:
        """Raises UsageError if the lengths do not fit the prompt or the model."""
        check_lengths(self.config.text.max_positions, self.prompt_ids(prompt), settings)

    def batch(self, settings: SearchSettings) -> int:
        """The number of images to caption at once."""
        return self.decoder.batch(self.vision.num_tokens, settings)

    def encode_images(self, pixels: Tensor) -> Tensor:
        """uint8 [n, 3, S, S] -> tokens [n, T, image_width]."""
        return self.vision.encode(pixels)

    def caption(
        self, tokens: Tensor, prompt: str, settings: SearchSettings, seeds: Sequence[int] | None = None
    ) -> list[Caption]:
        """One caption per image; tokens: [n, T, image_width]. `seeds`, one per image, are for nucleus sampling."""
        found = search(self.decoder, tokens, None, self.prompt_ids(prompt), settings, seeds)
        return [self._caption(hypothesis, prompt) for hypothesis in found]

    def caption_flops(self, prompt: str, settings: SearchSettings) -> float:
        """Estimated FLOPs for one image, with a length halfway between the shortest and the longest caption."""
        start = len(self.prompt_ids(prompt))
        steps = (max(start + 1, settings.min_length) + settings.max_length) / 2 - start
        decoding = flops.decoding_flops(self.config, self.vision.num_tokens, start, settings.beams, steps)
        return self.vision.flops + flops.context_flops(self.config, self.vision.num_tokens) + decoding

    @full_float32()
    @torch.inference_mode()
    def plain_tokens(self, pixels: Tensor) -> Tensor:
        """uint8 [n, 3, S, S] -> tokens [n, T, image_width] in float32."""
        tokens: Tensor = self.plain.visual_encoder(normalise(pixels.to(self.runtime.device)))
        return tokens

    @full_float32()
    @torch.inference_mode()
    def plain_log_prob(self, tokens: Tensor, ids: Sequence[int], prompt: str) -> float:
        """The expected `Caption.log_prob` of these ids, from one pass over the text; tokens: [1, T, image_width]."""
        text = torch.tensor(ids, device=tokens.device)[None]
        logits = self.plain.text_decoder(text, torch.ones_like(text), tokens)  # [1, tokens of the text, vocabulary]
        each = logits[0, :-1].log_softmax(-1).gather(1, text[0, 1:, None])
        return float(each[len(self.prompt_ids(prompt)) - 1 :].sum())

    @full_float32()
    @torch.inference_mode()
    def plain_caption(self, tokens: Tensor, prompt: str, settings: SearchSettings, seed: int) -> Caption:
        """Caption one image (tokens [1, T, image_width]) as the reference does.

        Each step reads the whole texts again, and the image's states are repeated for every beam.
        """
        decoding = PlainDecoding(self.plain.text_decoder, tokens)
        (found,) = run_search(decoding, self.prompt_ids(prompt), settings, self.tokenizer.sep_id, [seed])
        return self._caption(found, prompt)

    def _caption(self, found: Hypothesis, prompt: str) -> Caption:
        text = self.tokenizer.decode(found.ids)[len(prompt) :].strip()
        return Caption(text, found.ids, found.log_prob)
