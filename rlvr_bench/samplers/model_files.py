"""A checkpoint's files and its tokenizer, without torch: digest of the weights, prompts as tokens, tokens as text."""

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
from rlvr_bench.samplers.tokenizer import Tokenizer

__all__ = [
    "cached_folder",
    "check_context",
    "companion_digests",
    "cut_at_stop",
    "detokenise",
    "render",
    "response_texts",
    "stored_template",
    "template_cautions",
    "template_digest",
    "weights_digest",
]

ChatTemplate = Literal["auto", "none"]

_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
# What trainers leave beside the weights and no engine loads.
_NOT_WEIGHTS = frozenset({"optimizer.bin", "optimizer.pt", "scheduler.pt", "scaler.pt", "training_args.bin"})
# Files beside the weights that decide what is drawn.
_COMPANIONS = re.compile(
    r"((generation_|adapter_|quantize_|tokenizer_)?config|tokenizer|tekken|vocab|added_tokens|special_tokens_map|chat_template)"
    r"\.json|merges\.txt|chat_template\.jinja|.*\.(model|tiktoken|py)"
)
_UNIMPORTANT = ("transformers_version", "_name_or_path")  # what a library writes into a configuration by itself
_known_digests: dict[tuple[object, ...], str] = {}


def weights_digest(model: str, revision: str | None = None) -> str:
    """Which weights a model name stands for.

    A local directory gives ``sha256:`` over the name, size and content of its weight files, so that a checkpoint that
    was overwritten is another model. A hub id gives ``hub:ID@COMMIT`` where the local cache tells the commit (after
    loading it always does), else ``hub:ID``. Raises ModelError for a directory without weights.
    """
    directory = Path(model)
    if not directory.is_dir():
        commit = _cached_commit(model, revision)
        return f"hub:{model}@{commit}" if commit else f"hub:{model}"
    files = sorted(p for p in directory.iterdir() if p.suffix in _WEIGHT_SUFFIXES and p.name not in _NOT_WEIGHTS)
    if not files:
        raise ModelError(f"{directory} holds no weights: expected *.safetensors or *.bin beside config.json")
    whole = hashlib.sha256()
    with ThreadPoolExecutor(min(len(files), os.cpu_count() or 1)) as pool:  # hashing releases the interpreter lock
        for path, content in zip(files, pool.map(_file_digest, files), strict=True):
            whole.update(f"{path.name}\0{path.stat().st_size}\0{content}\n".encode())
    return f"sha256:{whole.hexdigest()}"


def _file_digest(path: Path) -> str:
    """SHA-256 of a file; read once in a process unless it changed meanwhile."""
    status = path.stat()
    key = (path.resolve(), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if key not in _known_digests:
        with path.open("rb") as stream:
            _known_digests[key] = hashlib.file_digest(stream, "sha256").hexdigest()
    return _known_digests[key]


def companion_digests(model: str) -> dict[str, str] | None:
    """Digests (16 hex digits) of the files beside a folder's weights that decide what is drawn, by name.

    None where the model is no folder: the commit of a hub model covers its files. JSON counts by its content.
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
    except ValueError:
        return content
    if isinstance(values, dict):
        values = {name: value for name, value in values.items() if name not in _UNIMPORTANT}
    return json.dumps(values, sort_keys=True).encode()


def stored_template(model: str) -> str | None:
    """SHA-256 of the chat template in a folder's files, as ``template_digest`` gives it; None where there is none."""
    folder = Path(model)
    with contextlib.suppress(OSError, ValueError):
        return hashlib.sha256((folder / "chat_template.jinja").read_bytes()).hexdigest()
    with contextlib.suppress(OSError, ValueError, AttributeError):
        found = json.loads((folder / "tokenizer_config.json").read_text()).get("chat_template")
        return hashlib.sha256(found.encode()).hexdigest() if found else None
    return None


def _cached_commit(model: str, revision: str | None) -> str | None:
    """The commit of a hub model in the local cache."""
    folder = cached_folder(model, revision)
    return None if folder is None else folder.name


def cached_folder(model: str, revision: str | None = None) -> Path | None:
    """The snapshot of a hub model in the local cache, the folder that holds its config; its name is the commit."""
    try:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
    except ImportError:
        return None
    try:
        found = try_to_load_from_cache(model, "config.json", revision=revision)
    except HFValidationError:
        return None
    return Path(found).parent if isinstance(found, str) else None


def _uses_template(tokenizer: object, chat_template: ChatTemplate) -> bool:
    return chat_template == "auto" and bool(getattr(tokenizer, "chat_template", None))


def template_digest(tokenizer: Tokenizer, chat_template: ChatTemplate, prompt: Prompt | None = None) -> str | None:
    """SHA-256 of the chat template that prompts go through, or None where they are sent as raw text.

    Without a ``prompt`` this speaks of prompts that carry messages; one without messages is always raw text.
    """
    if not _uses_template(tokenizer, chat_template) or (prompt is not None and not prompt.messages):
        return None
    return hashlib.sha256(tokenizer.get_chat_template().encode()).hexdigest()


def template_cautions(tokenizer: object, chat_template: ChatTemplate) -> tuple[str, ...]:
    """The warning where the model has a chat template and prompts do not go through it."""
    if chat_template == "auto" or not getattr(tokenizer, "chat_template", None):
        return ()
    return ("the model's chat template is not applied: prompts are sent as raw text, as asked",)


def render(tokenizer: Tokenizer, prompt: Prompt, chat_template: ChatTemplate) -> list[int]:
    """The prompt's token ids as the model will see them, those of a begun response behind it.

    Messages go through the tokenizer's chat template, opened for the answer; the template writes the special tokens
    itself. Raw text gets those that the tokenizer adds by default. Raises ModelError where the template refuses the
    messages.
    """
    begun, more = (prompt.begun, ()) if isinstance(prompt.begun, str) else ("", prompt.begun)
    if template_digest(tokenizer, chat_template, prompt) is None:
        return [*(int(i) for i in tokenizer(prompt.text + begun)["input_ids"]), *more]
    try:
        text = tokenizer.apply_chat_template(list(prompt.messages), tokenize=False, add_generation_prompt=True)
    except Exception as error:
        raise ModelError(
            f"the model's chat template refuses the messages of problem {prompt.problem_id}: {error} "
            "(chat_template='none' sends the prompt as raw text)"
        ) from error
    return [*(int(i) for i in tokenizer(text + begun, add_special_tokens=False)["input_ids"]), *more]


def response_texts(
    tokenizer: Tokenizer, prompt_ids: Sequence[int], request: DrawRequest, responses: Sequence[Sequence[int]]
) -> list[tuple[str, bool]]:
    """Each response's text, what its prompt had begun included, and whether a stop string ended it.

    ``prompt_ids`` are those of ``render``. Tokens of a begun response are decoded with what follows them: a character may
    lie across the seam.
    """
    begun = request.prompt.begun
    if isinstance(begun, str):
        found = (cut_at_stop(text, request.stop) for text in detokenise(tokenizer, prompt_ids, responses))
        return [(begun + text, stopped) for text, stopped in found]
    whole = [[*begun, *ids] for ids in responses]
    return [
        cut_at_stop(text, request.stop)
        for text in detokenise(tokenizer, prompt_ids[: len(prompt_ids) - len(begun)], whole)
    ]


def cut_at_stop(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """The text up to the end of the first stop string in it, and whether there is one."""
    ends = [at + len(stop) for stop in stops if (at := text.find(stop)) >= 0]
    return (text[: min(ends)], True) if ends else (text, False)


def detokenise(tokenizer: Tokenizer, prompt_ids: Sequence[int], responses: Sequence[Sequence[int]]) -> list[str]:
    """Text of each response to one prompt, special tokens left out.

    Tokenizers of the sentencepiece kind drop a leading space when they decode a response alone, and with it the
    indentation of a program's first line. So each is decoded behind the end of its prompt, which is then cut off.
    """
    # Clean-up of spaces before punctuation would change the text that the model wrote.
    options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    tail = list(prompt_ids[-4:])
    lead = tokenizer.decode(tail, **options)
    whole = tokenizer.batch_decode([[*tail, *ids] for ids in responses], **options)
    if all(text.startswith(lead) for text in whole):
        return [text[len(lead) :] for text in whole]
    # The prompt ends inside a character, which the first token of a response completes.
    return list(tokenizer.batch_decode([list(ids) for ids in responses], **options))


def check_context(prompt_tokens: Mapping[str, int], max_tokens: int, context_tokens: int | None) -> None:
    """Refuse prompts (problem id -> tokens) that leave no room for ``max_tokens`` in the model's context.

    Raises BadArgument naming the longest of them.
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
