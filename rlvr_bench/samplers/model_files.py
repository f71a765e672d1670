"""A checkpoint's files and tokenizer, without torch: digests of weights, prompts to tokens, tokens to text."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from rlvr_bench.errors import BadArgument, ModelError
from rlvr_bench.records import DrawRequest, Prompt
from rlvr_bench.samplers.digest_store import identity, is_settled, shared_digest
from rlvr_bench.samplers.tokenizer import Tokenizer

__all__ = [
    "cached_folder",
    "check_context",
    "companion_digests",
    "cut_at_stop",
    "detokenise",
    "files_digest",
    "render",
    "response_texts",
    "stored_template",
    "template_cautions",
    "template_digest",
    "weights_digest",
]

ChatTemplate = Literal["auto", "none"]

_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
# Files that trainers store next to the weights and no engine loads.
_NOT_WEIGHTS = frozenset({"optimizer.bin", "optimizer.pt", "scheduler.pt", "scaler.pt", "training_args.bin"})
# Files next to the weights that decide what is drawn.
_COMPANIONS = re.compile(
    r"((generation_|adapter_|quantize_|tokenizer_)?config|tokenizer|tekken|vocab|added_tokens|special_tokens_map|chat_template)"
    r"\.json|merges\.txt|chat_template\.jinja|.*\.(model|tiktoken|py)"
)
_UNIMPORTANT = ("transformers_version", "_name_or_path")  # a library writes these into a configuration itself
_known_digests: dict[tuple[object, ...], str] = {}


def weights_digest(model: str, revision: str | None = None) -> str:
    """A text that identifies the weights of a model.

    For a local directory: ``sha256:`` and a digest over name, size and content of its weight files, so that a
    checkpoint that was overwritten counts as another model; a node reads the files once for all its engines. For a hub
    id: ``hub:ID@COMMIT`` where the local cache has the commit (it always has after loading), else ``hub:ID``. Raises
    ModelError for a directory without weights.
    """
    directory = Path(model)
    if not directory.is_dir():
        commit = _cached_commit(model, revision)
        return f"hub:{model}@{commit}" if commit else f"hub:{model}"
    files = sorted(p for p in directory.iterdir() if p.suffix in _WEIGHT_SUFFIXES and p.name not in _NOT_WEIGHTS)
    if not files:
        raise ModelError(f"{directory} holds no weights: expected *.safetensors or *.bin beside config.json")
    return files_digest(files)


def files_digest(files: Sequence[Path]) -> str:
    """``sha256:`` and a digest over name, size and content of these files, which a node reads once."""
    return shared_digest(files, lambda: _content_digest(files))


def _content_digest(files: Sequence[Path]) -> str:
    whole = hashlib.sha256()
    with ThreadPoolExecutor(min(len(files), os.cpu_count() or 1)) as pool:  # hashing releases the interpreter lock
        for path, content in zip(files, pool.map(_file_digest, files), strict=True):
            whole.update(f"{path.name}\0{path.stat().st_size}\0{content}\n".encode())
    return f"sha256:{whole.hexdigest()}"


def _file_digest(path: Path) -> str:
    """SHA-256 of a file. A process reads a file once, and again only after a change."""
    key = identity(path)
    if key in _known_digests:
        return _known_digests[key]
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if is_settled(key) and identity(path) == key:
        _known_digests[key] = digest
    return digest


def companion_digests(model: str) -> dict[str, str] | None:
    """Digests (16 hex digits), by file name, of the files next to the weights that decide what is drawn.

    None where the model is not a folder: the commit of a hub model covers its files. Of a ``*config.json`` only the
    parsed content counts, without the version of the library and the name that it was loaded from.
    """
    directory = Path(model)
    if not directory.is_dir():
        return None
    files = sorted(path for path in directory.iterdir() if _COMPANIONS.fullmatch(path.name) and path.is_file())
    return {path.name: hashlib.sha256(_content(path)).hexdigest()[:16] for path in files}


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    if not path.name.endswith("config.json"):
        return content
    try:
        values = json.loads(content)
        if isinstance(values, dict):
            values = {name: value for name, value in values.items() if name not in _UNIMPORTANT}
        return json.dumps(values, sort_keys=True).encode()
    except (ValueError, RecursionError):
        return content


def stored_template(model: str) -> str | None:
    """SHA-256 of the chat template in a folder's files, equal to ``template_digest``; None where there is none."""
    folder = Path(model)
    with contextlib.suppress(OSError, ValueError):
        return hashlib.sha256((folder / "chat_template.jinja").read_bytes()).hexdigest()
    with contextlib.suppress(OSError, ValueError, AttributeError, RecursionError):
        template = json.loads((folder / "tokenizer_config.json").read_text()).get("chat_template")
        return hashlib.sha256(template.encode()).hexdigest() if template else None
    return None


def _cached_commit(model: str, revision: str | None) -> str | None:
    """The commit of a hub model in the local cache."""
    folder = cached_folder(model, revision)
    return None if folder is None else folder.name


def cached_folder(model: str, revision: str | None = None) -> Path | None:
    """The snapshot folder of a hub model in the local cache, with its config; the folder's name is the commit.

    None where the cache has no such snapshot.
    """
    try:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
    except ImportError:
        return None
    try:
        config_path = try_to_load_from_cache(model, "config.json", revision=revision)
    except HFValidationError:
        return None
    return Path(config_path).parent if isinstance(config_path, str) else None


def _uses_template(tokenizer: object, chat_template: ChatTemplate) -> bool:
    return chat_template == "auto" and bool(getattr(tokenizer, "chat_template", None))


def template_digest(tokenizer: Tokenizer, chat_template: ChatTemplate, prompt: Prompt | None = None) -> str | None:
    """SHA-256 of the chat template that is applied to prompts, or None where they are sent as raw text.

    Without a ``prompt`` the result is for prompts with messages. A prompt without messages is always sent as raw text.
    """
    if not _uses_template(tokenizer, chat_template) or (prompt is not None and not prompt.messages):
        return None
    return hashlib.sha256(tokenizer.get_chat_template().encode()).hexdigest()


def template_cautions(tokenizer: object, chat_template: ChatTemplate) -> tuple[str, ...]:
    """A warning where the model has a chat template that is not applied; else empty."""
    if chat_template == "auto" or not getattr(tokenizer, "chat_template", None):
        return ()
    return ("the model's chat template is not applied: prompts are sent as raw text, as asked",)


def render(
    tokenizer: Tokenizer, prompt: Prompt, chat_template: ChatTemplate, template_args: Mapping[str, object] | None = None
) -> list[int]:
    """The prompt's token ids as the model sees them, followed by those of a begun response.

    The tokenizer's chat template is applied to messages, with ``template_args`` and its generation prompt at the end; the
    template writes the special tokens itself. Raw text gets the special tokens that the tokenizer adds by default. Raises
    ModelError where the template refuses the messages.
    """
    begun, more = (prompt.begun, ()) if isinstance(prompt.begun, str) else ("", prompt.begun)
    if template_digest(tokenizer, chat_template, prompt) is None:
        return [*(int(i) for i in tokenizer(prompt.text + begun)["input_ids"]), *more]
    try:
        text = tokenizer.apply_chat_template(
            list(prompt.messages), tokenize=False, add_generation_prompt=True, **(template_args or {})
        )
    except Exception as error:
        raise ModelError(
            f"the model's chat template refuses the messages of problem {prompt.problem_id}: {error} "
            "(chat_template='none' sends the prompt as raw text)"
        ) from error
    return [*(int(i) for i in tokenizer(text + begun, add_special_tokens=False)["input_ids"]), *more]


def response_texts(
    tokenizer: Tokenizer,
    prompt_ids: Sequence[int],
    request: DrawRequest,
    responses: Sequence[Sequence[int]],
    before: Sequence[str] = (),
) -> list[tuple[str, bool]]:
    """The text of every response, with the begun part in front, and whether a stop string ended it.

    ``prompt_ids`` are those of ``render``. ``before``: stop strings that are not part of the text. Tokens of a begun
    response are decoded together with those that follow, because one character may need tokens of both.
    """
    begun = request.prompt.begun
    if isinstance(begun, str):
        decoded = (cut_at_stop(text, request.stop, before) for text in detokenise(tokenizer, prompt_ids, responses))
        return [(begun + text, stopped) for text, stopped in decoded]
    whole = [[*begun, *ids] for ids in responses]
    return [
        cut_at_stop(text, request.stop, before)
        for text in detokenise(tokenizer, prompt_ids[: len(prompt_ids) - len(begun)], whole)
    ]


def cut_at_stop(text: str, stops: Sequence[str], before: Sequence[str] = ()) -> tuple[str, bool]:
    """The text up to the stop string that is complete first, and whether it has one.

    The string is part of the result if it is one of ``stops``, and not if it is one of ``before``.
    """
    kept = [(at + len(stop), at + len(stop)) for stop in stops if (at := text.find(stop)) >= 0]
    dropped = [(at + len(stop), at) for stop in before if (at := text.find(stop)) >= 0]
    ends = [*kept, *dropped]
    return (text[: min(ends)[1]], True) if ends else (text, False)


def detokenise(tokenizer: Tokenizer, prompt_ids: Sequence[int], responses: Sequence[Sequence[int]]) -> list[str]:
    """The texts of the responses to one prompt, without special tokens.

    Sentencepiece tokenizers drop a leading space when they decode a response alone, and with it the indentation of a
    program's first line. So a response is decoded together with the end of its prompt, whose text is then removed.
    """
    # Cleaning up spaces before punctuation would change the model's text.
    options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    tail = list(prompt_ids[-4:])
    lead = tokenizer.decode(tail, **options)
    whole = tokenizer.batch_decode([[*tail, *ids] for ids in responses], **options)
    if all(text.startswith(lead) for text in whole):
        return [text[len(lead) :] for text in whole]
    # The prompt ends in the middle of a character, and the first token of a response completes it.
    return list(tokenizer.batch_decode([list(ids) for ids in responses], **options))


def check_context(prompt_tokens: Mapping[str, int], max_tokens: int, context_tokens: int | None) -> None:
    """Check that every prompt leaves room for ``max_tokens`` in the model's context.

    ``prompt_tokens`` maps problem ids to lengths in tokens. Raises BadArgument, which names the longest prompt.
    """
    if not prompt_tokens or context_tokens is None:
        return
    longest = max(prompt_tokens, key=lambda name: prompt_tokens[name])
    room = context_tokens - prompt_tokens[longest]
    if max_tokens > room:
        raise BadArgument(
            "max_tokens",
            max_tokens,
            f"the longest prompt, problem {longest}, takes {prompt_tokens[longest]} of the model's {context_tokens} "
            f"tokens of context, which leaves {max(room, 0)}",
        )
