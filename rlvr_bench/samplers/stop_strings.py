"""Whether a model can write a stop string at all, found with its tokenizer before anything is drawn."""

from __future__ import annotations

from collections.abc import Sequence

from rlvr_bench.errors import BadArgument
from rlvr_bench.samplers.tokenizer import Tokenizer

__all__ = ["check_stop_strings"]


def check_stop_strings(tokenizer: Tokenizer, stops: Sequence[str]) -> None:
    """Raises BadArgument for a stop string that can never be in the text of a response.

    Special tokens are not part of the text. Text that comes back changed from its tokens is outside the vocabulary.
    """
    for stop in stops:
        ids = list(tokenizer(stop, add_special_tokens=False)["input_ids"])
        special = (tokenizer.convert_ids_to_tokens(token) for token in ids if token in tokenizer.all_special_ids)
        for name in (name for name in special if name in stop):  # another one stands for an unknown word
            why = f"{name} is a special token of this model, which is not part of a response's text"
            raise BadArgument("--stop", stop, why)
        text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        # Some tokenizers drop or add a space at the beginning of a text.
        if stop.lstrip(" ") not in text:
            raise BadArgument("--stop", stop, f"this model's tokenizer cannot produce it (it reads it as {text!r})")
