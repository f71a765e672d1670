"""Many rollouts of many prompts from a zoo model on a CPU, with exact token statistics.

Each prompt is read once, and all its rollouts share its keys and values; for a rollout only the tokens that it adds are
stored. Every step then needs three large matrix products instead of thousands of tiny ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlvr_bench.zoo.model import KeyValues, Layer, TinyLlama
from rlvr_bench.zoo.tokenizer import EOS, PAD, decode

__all__ = ["Samples", "Sampling", "sample"]

_NUCLEUS = 0.95


@dataclass(frozen=True)
class Sampling:
    """``n`` rollouts of each prompt, at most ``max_tokens`` long, at a temperature above zero."""

    n: int
    max_tokens: int = 26
    temperature: float = 1.0


@dataclass(frozen=True)
class Samples:
    """Rollouts of U prompts, n each: row u * n + i is rollout i of prompt u.

    ``ids`` (U * n, T) holds ``<pad>`` after the end; ``lengths`` (U * n,) counts tokens including ``<eos>``;
    ``logprob``, ``entropy`` (nats) and ``nucleus`` (tokens that hold 0.95 of the probability), each (U * n, T) and zero
    after the end, are those of the model's own distribution at temperature 1.
    """

    ids: Tensor
    lengths: Tensor
    logprob: Tensor
    entropy: Tensor
    nucleus: Tensor

    def texts(self) -> list[str]:
        """The text of every row."""
        lengths = self.lengths.tolist()
        return [decode(row[:length]) for row, length in zip(self.ids.tolist(), lengths, strict=True)]

    def finished(self) -> Tensor:
        """Whether each row ended by itself, (U * n,) booleans."""
        last = self.ids.gather(1, (self.lengths - 1)[:, None]).squeeze(1)
        return last == EOS


@torch.no_grad()
def sample(
    model: TinyLlama, prompts: Sequence[Sequence[int]], sampling: Sampling, generator: torch.Generator
) -> Samples:
    """Draw ``sampling.n`` rollouts of each prompt (token ids that start with ``<bos>``).

    What is drawn depends on the generator, the prompts and their order. Sequences must fit in the model's context.
    """
    state = _State(model, prompts, sampling)
    record = _Record(state.rows, sampling.max_tokens)
    logits = state.read_prompts()
    for t in range(sampling.max_tokens):
        chosen = _choose(logits, sampling.temperature, generator)
        alive = record.add(t, logits, chosen)
        if not alive or t == sampling.max_tokens - 1:
            break
        logits = state.advance(t, record.ids[:, t])
    return record.samples()


def _choose(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """One token for each row, by inverting the cumulative distribution."""
    cumulative = torch.softmax(logits / temperature, -1).cumsum(-1)
    level = torch.rand(logits.shape[0], 1, generator=generator) * cumulative[:, -1:]
    return (cumulative <= level).sum(-1).clamp(max=logits.shape[1] - 1)


class _Record:
    """The tokens drawn so far, with their statistics."""

    def __init__(self, rows: int, max_tokens: int) -> None:
        self.ids = torch.full((rows, max_tokens), PAD)
        self.lengths = torch.full((rows,), max_tokens)
        self.live = torch.ones(rows, dtype=torch.bool)
        self.logprob, self.entropy, self.nucleus = (torch.zeros(rows, max_tokens) for _ in range(3))

    def add(self, t: int, logits: Tensor, chosen: Tensor) -> bool:
        """Note token t of every live row; False once no row is live."""
        logprobs = torch.log_softmax(logits, -1)
        probabilities = logprobs.exp()
        live = self.live
        self.ids[:, t] = torch.where(live, chosen, PAD)
        self.logprob[:, t] = logprobs.gather(1, chosen[:, None]).squeeze(1) * live
        self.entropy[:, t] = -(probabilities * logprobs).sum(-1) * live
        largest_first = probabilities.sort(-1, descending=True).values
        self.nucleus[:, t] = ((largest_first.cumsum(-1) < _NUCLEUS).sum(-1) + 1) * live
        ended = live & (chosen == EOS)
        self.lengths[ended] = t + 1
        self.live = live & ~ended
        return bool(self.live.any())

    def samples(self) -> Samples:
        return Samples(self.ids, self.lengths, self.logprob, self.entropy, self.nucleus)


class _State:
    """Keys and values of the prompts (once each) and of the tokens that each rollout adds."""

    def __init__(self, model: TinyLlama, prompts: Sequence[Sequence[int]], sampling: Sampling) -> None:
        shape = model.shape
        self.model, self.prompts, self.n = model, prompts, sampling.n
        self.rows = len(prompts) * sampling.n
        self.prompt_lengths = torch.tensor([len(prompt) for prompt in prompts])
        self.width = int(self.prompt_lengths.max())
        self.positions = self.prompt_lengths.repeat_interleave(sampling.n)
        beyond = torch.arange(self.width)[None] >= self.prompt_lengths[:, None]
        self.prompt_mask = torch.zeros(len(prompts), 1, self.width).masked_fill(beyond[:, None], -1e9)
        self.prompt_cache: KeyValues = []
        # Keys are stored transposed, (rows, head, tokens): the product with the queries reads them so.
        self.own_cache: KeyValues = [
            (
                torch.zeros(self.rows, shape.head, sampling.max_tokens),
                torch.zeros(self.rows, sampling.max_tokens, shape.head),
            )
            for _ in range(shape.layers)
        ]

    def read_prompts(self) -> Tensor:
        """Run the prompts through the model; logits (rows, vocabulary) of every rollout's first token."""
        ids = torch.full((len(self.prompts), self.width), PAD)
        for row, prompt in zip(ids, self.prompts, strict=True):
            row[: len(prompt)] = torch.tensor(prompt)
        logits = self.model(ids, self.prompt_cache)
        self.prompt_cache = [(keys.transpose(1, 2).contiguous(), values) for keys, values in self.prompt_cache]
        last: Tensor = logits[torch.arange(len(self.prompts)), self.prompt_lengths - 1]
        return last.repeat_interleave(self.n, 0)

    def advance(self, t: int, ids: Tensor) -> Tensor:
        """Feed token t of every rollout, ids (rows,); logits (rows, vocabulary) of the next."""
        x: Tensor = self.model.model.embed_tokens(ids)
        cos, sin = self.model.cos[self.positions + t], self.model.sin[self.positions + t]
        for index, layer in enumerate(self.model.layers()):
            queries, keys, values = layer.self_attn.project(layer.input_layernorm(x), cos, sin)
            own_keys, own_values = self.own_cache[index]
            own_keys[:, :, t], own_values[:, t] = keys, values
            x = layer.feed_forward(x + self._attend(layer, queries, index, t + 1))
        return self.model.logits(x)

    def _attend(self, layer: Layer, queries: Tensor, index: int, tokens: int) -> Tensor:
        """Attention of queries (rows, heads, head) over the prompt and the rollout's first ``tokens`` tokens."""
        heads, head = queries.shape[1:]
        prompt_keys, prompt_values = self.prompt_cache[index]
        own_keys, own_values = self.own_cache[index]
        grouped = torch.bmm(queries.view(len(self.prompts), self.n * heads, head), prompt_keys) + self.prompt_mask
        scores = torch.cat((grouped.view(self.rows, heads, -1), torch.bmm(queries, own_keys[:, :, :tokens])), -1)
        weights = scores.softmax(-1)
        on_prompt = weights[..., : self.width].reshape(len(self.prompts), self.n * heads, self.width)
        mixed = torch.bmm(on_prompt, prompt_values).view(self.rows, heads, head)
        mixed = mixed + torch.bmm(weights[..., self.width :], own_values[:, :tokens])
        out: Tensor = layer.self_attn.o_proj(mixed.reshape(self.rows, -1))
        return out
