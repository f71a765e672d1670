"""A Llama of 0.6 million parameters, written for speed on one CPU core; its weights load unchanged in transformers.

Parameter names, RoPE, RMSNorm and gated MLP are those of ``LlamaForCausalLM``. All query heads share one key head and one
value head (multi-query attention): attention becomes a few large matrix products, and the key-value cache is four times
smaller. Attention does not use PyTorch's fused bfloat16 kernel: its backward pass took half of a training step on a CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlvr_bench.zoo.tokenizer import VOCABULARY

__all__ = ["KeyValues", "Shape", "TinyLlama", "rotate"]

KeyValues = list[tuple[Tensor, Tensor]]
"""For each layer the keys and the values of a batch of sequences, each of shape (batch, tokens, head)."""


@dataclass(frozen=True)
class Shape:
    """Sizes of the network; ``context`` is the longest sequence, in tokens."""

    hidden: int = 128
    layers: int = 3
    heads: int = 4
    mlp: int = 384
    context: int = 128
    vocabulary: int = len(VOCABULARY)
    rope_theta: float = 10_000.0
    norm_epsilon: float = 1e-6

    @property
    def head(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding over the last axis, in the half-split layout of Llama on Hugging Face."""
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin


class RMSNorm(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape.hidden))
        self.epsilon = shape.norm_epsilon

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, self.weight.shape, self.weight, self.epsilon)


class Attention(nn.Module):
    """Multi-query attention: ``heads`` query heads share one key head and one value head."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, self.head = shape.heads, shape.head
        self.q_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)
        self.k_proj = nn.Linear(shape.hidden, shape.head, bias=False)
        self.v_proj = nn.Linear(shape.hidden, shape.head, bias=False)
        self.o_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scaled queries (..., heads, head), keys (..., head) and values (..., head) of x (..., hidden), rotated."""
        queries = self.q_proj(x).unflatten(-1, (self.heads, self.head))
        queries = rotate(queries, cos.unsqueeze(-2), sin.unsqueeze(-2)) * self.head**-0.5
        return queries, rotate(self.k_proj(x), cos, sin), self.v_proj(x)

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Mix values (batch, tokens, head) by queries (batch, tokens, heads, head); returns (batch, tokens, hidden)."""
        batch, tokens = queries.shape[:2]
        rows = queries.reshape(batch, tokens * self.heads, self.head)
        scores = torch.bmm(rows, keys.transpose(1, 2)).view(batch, tokens, self.heads, tokens)
        weights = (scores + mask[:, None]).softmax(-1).view(batch, tokens * self.heads, tokens)
        mixed: Tensor = self.o_proj(torch.bmm(weights, values).view(batch, tokens, self.heads * self.head))
        return mixed


class MLP(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.mlp, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.mlp, bias=False)
        self.down_proj = nn.Linear(shape.mlp, shape.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.self_attn = Attention(shape)
        self.mlp = MLP(shape)
        self.input_layernorm = RMSNorm(shape)
        self.post_attention_layernorm = RMSNorm(shape)

    def feed_forward(self, x: Tensor) -> Tensor:
        """The second half of the layer, with its residual."""
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Core(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape)


class TinyLlama(nn.Module):
    """The whole network; input embedding and output layer are the same matrix.

    ``generator`` draws fresh weights; without one they have PyTorch's defaults, for a caller that loads others.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape | None = None, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.shape = shape or Shape()
        self.model = Core(self.shape)
        cos, sin = _rotations(self.shape)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        if generator is not None:
            self._initialise(generator)

    def _initialise(self, generator: torch.Generator) -> None:
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2:
                continue
            # Layers that write to the residual stream start at half size, which keeps its early variance in bounds.
            gain = 0.5 if "o_proj" in name or "down_proj" in name else 1.0
            std = 0.02 if "embed" in name else gain / math.sqrt(parameter.shape[1])
            nn.init.normal_(parameter, std=std, generator=generator)

    def layers(self) -> list[Layer]:
        """The layers, typed."""
        return [layer for layer in self.model.layers if isinstance(layer, Layer)]

    def logits(self, x: Tensor) -> Tensor:
        """Logits (..., vocabulary) from the last layer's output (..., hidden)."""
        return functional.linear(self.model.norm(x), self.model.embed_tokens.weight)

    def forward(self, ids: Tensor, cache: KeyValues | None = None) -> Tensor:
        """Logits (batch, tokens, vocabulary) of ids (batch, tokens); shorter sequences are padded on the right.

        Where ``cache`` is given, each layer's keys and values are appended to it.
        """
        tokens = ids.shape[1]
        cos, sin = self.cos[:tokens], self.sin[:tokens]
        x: Tensor = self.model.embed_tokens(ids)
        mask = torch.full((tokens, tokens), -1e9).triu(1).to(x.dtype)
        for layer in self.layers():
            queries, keys, values = layer.self_attn.project(layer.input_layernorm(x), cos, sin)
            if cache is not None:
                cache.append((keys, values))
            x = layer.feed_forward(x + layer.self_attn.attend(queries, keys, values, mask))
        return self.logits(x)


def _rotations(shape: Shape) -> tuple[Tensor, Tensor]:
    """Cosines and sines of every position's rotation, each (context, head)."""
    frequencies = shape.rope_theta ** -(torch.arange(0, shape.head, 2).float() / shape.head)
    angles = torch.outer(torch.arange(shape.context).float(), frequencies)
    both = torch.cat((angles, angles), -1)
    return both.cos(), both.sin()
