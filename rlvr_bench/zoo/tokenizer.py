"""The zoo's tokenizer: one token for each number below one hundred, one for each symbol of the puzzle.

Numbers are whole tokens: a model that reads digits spends most of its training on finding which numbers are still
available, and learned about four times slower. Longer runs of digits split into numbers of one or two digits, so every
string over the puzzle's alphabet survives a round trip; anything else becomes ``<unk>``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

__all__ = ["BOS", "EOS", "PAD", "UNKNOWN", "VOCABULARY", "decode", "encode", "save_tokenizer"]

_SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
PAD, BOS, EOS, UNKNOWN = range(len(_SPECIAL))
VOCABULARY: tuple[str, ...] = (*_SPECIAL, *"+-*/=,;>:", *map(str, range(100)))

_IDS = {token: number for number, token in enumerate(VOCABULARY)}
# Numbers are read from the left; "07" is two tokens, because 07 is not the text of the token 7.
_SPLIT = r"[1-9][0-9]|[0-9]|[^0-9]"


def encode(text: str) -> list[int]:
    """Token ids of a text, without ``<bos>`` or ``<eos>``."""
    return [_IDS.get(piece, UNKNOWN) for piece in re.findall(_SPLIT, text, re.DOTALL)]


def decode(ids: Iterable[int]) -> str:
    """The text of token ids, special tokens left out."""
    return "".join(VOCABULARY[token] for token in ids if token >= len(_SPECIAL))


def save_tokenizer(directory: Path, context: int) -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json`` so that ``AutoTokenizer`` reads this tokenizer back.

    The saved tokenizer puts ``<bos>`` before every text; ``context`` is the longest sequence of the model, in tokens.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel(_IDS, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_SPLIT), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", BOS)])
    tokenizer.add_special_tokens(list(_SPECIAL))
    tokenizer.save(str(directory / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
        **{f"{name}_token": f"<{name}>" for name in ("pad", "bos", "eos", "unk")},
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
