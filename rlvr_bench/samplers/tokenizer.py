"""What is used of a checkpoint's tokenizer. The tokenizers of Hugging Face transformers and of vLLM implement it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

__all__ = ["Tokenizer"]


class Tokenizer(Protocol):
    """Turns text into token ids and back."""

    @property
    def eos_token_id(self) -> int | None: ...

    @property
    def all_special_ids(self) -> Sequence[int]: ...

    def __len__(self) -> int: ...

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> Mapping[str, Sequence[int]]: ...

    def decode(
        self, ids: Sequence[int], *, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool = ...
    ) -> str: ...

    def batch_decode(
        self, rows: Sequence[Sequence[int]], *, skip_special_tokens: bool, clean_up_tokenization_spaces: bool
    ) -> Sequence[str]: ...

    def apply_chat_template(
        self, messages: Sequence[Mapping[str, str]], *, tokenize: bool, add_generation_prompt: bool, **kwargs: object
    ) -> str: ...

    def get_chat_template(self) -> str: ...

    def convert_ids_to_tokens(self, token: int) -> str: ...
