"""Zoo weights as a Hugging Face checkpoint that transformers and vLLM load, and back."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rlvr_bench import countdown
from rlvr_bench.errors import ModelError
from rlvr_bench.zoo.checkpoints import WEIGHTS
from rlvr_bench.zoo.delta import weights_bytes
from rlvr_bench.zoo.model import Shape, TinyLlama
from rlvr_bench.zoo.tokenizer import BOS, EOS, PAD, encode, save_tokenizer

if TYPE_CHECKING:
    from transformers import LlamaConfig

__all__ = ["export", "load", "verify_export"]

_TOLERANCE = 1e-4


def export(model: TinyLlama, directory: Path) -> None:
    """Write config, bfloat16 weights, tokenizer and generation defaults into an existing folder, then verify the folder.

    Raises ModelError where the written checkpoint does not behave as ``model`` does (see ``verify_export``).
    """
    from transformers import GenerationConfig

    (directory / WEIGHTS).write_bytes(weights_bytes(model.state_dict()))
    _config(model.shape).save_pretrained(directory)
    GenerationConfig(bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD).save_pretrained(directory)
    save_tokenizer(directory, model.shape.context)
    verify_export(directory)


def load(directory: Path) -> TinyLlama:
    """The model of an exported folder, its weights widened to float32. Raises ModelError where it cannot be read."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        model = TinyLlama(_shape(json.loads((directory / "config.json").read_text())))
        model.load_state_dict({name: value.float() for name, value in load_file(directory / WEIGHTS).items()})
    except (OSError, SafetensorError, RuntimeError, KeyError, ValueError) as fault:
        raise ModelError(f"{directory} is not a readable zoo checkpoint: {fault}. Train it again.") from fault
    return model


def verify_export(directory: Path) -> None:
    """Check an exported folder: its tokenizer must agree with ours both ways, its transformers logits with our model's.

    Raises ModelError that says which differs.
    """
    from transformers import AutoTokenizer

    texts = _sample_texts()
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    for text in texts:
        ids = tokenizer(text).input_ids
        if ids != [BOS, *encode(text)] or tokenizer.decode(ids, skip_special_tokens=True) != text:
            raise ModelError(f"{directory}: the exported tokenizer reads {text!r} as {ids}")
    reference, ours = _reference(directory), load(directory).eval()
    worst = max(_disagreement(ours, reference, [BOS, *encode(text)]) for text in texts)
    if worst > _TOLERANCE:
        raise ModelError(f"{directory}: logits differ from those of transformers by up to {worst:.2g}")


def _reference(directory: Path) -> torch.nn.Module:
    """The folder as transformers loads it, in float32 and without its progress bar."""
    from transformers import LlamaForCausalLM
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        loaded = LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32, local_files_only=True)
    finally:
        if shown:
            logging.enable_progress_bar()
    reference: torch.nn.Module = loaded.eval()
    return reference


@torch.no_grad()
def _disagreement(ours: TinyLlama, reference: torch.nn.Module, ids: list[int]) -> float:
    batch = torch.tensor([ids])
    difference: Tensor = ours(batch) - reference(batch).logits
    return difference.abs().max().item()


def _sample_texts() -> list[str]:
    rng = random.Random(0)
    drawn = [countdown.generate(rng, sizes) for tier in countdown.TIERS.values() for sizes in tier]
    return [countdown.prompt_text(puzzle) + countdown.response_text(steps) for puzzle, steps in drawn]


def _shape(config: dict[str, Any]) -> Shape:
    """The sizes in a config.json."""
    return Shape(
        hidden=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        mlp=config["intermediate_size"],
        context=config["max_position_embeddings"],
        vocabulary=config["vocab_size"],
        norm_epsilon=config["rms_norm_eps"],
    )


def _config(shape: Shape) -> LlamaConfig:
    from transformers import LlamaConfig

    return LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.mlp,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=1,
        head_dim=shape.head,
        max_position_embeddings=shape.context,
        rms_norm_eps=shape.norm_epsilon,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        tie_word_embeddings=True,
        attention_bias=False,
        mlp_bias=False,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
        dtype="bfloat16",
    )
