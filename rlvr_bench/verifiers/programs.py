"""Programs in responses: the fenced blocks that hold code, and the choice of the block that a problem's tests need.

A response may hold a solution and then an example of its use, or helpers and then the function that needs them. Which block
counts depends on the problem, and extraction does not see the problem: it keeps every block that could count, in one text.
`choose_program` then picks by the names that the tests need. Taking blocks is linear in the text; choosing parses them.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import hashlib
import re
import symtable
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from rlvr_bench.verifiers.protocol import Extraction

__all__ = ["choose_program", "defined_names", "program_key", "take_program"]

_BOUNDARY = "# ---- another block of the response ----"
_MAX_BLOCKS = 20

# Indentation, quotation and list markers, then at least three ticks or tildes, then the language.
_FENCE = re.compile(
    r"^((?:[ \t>]|[-*+][ \t]|\d{1,3}[.)][ \t])*)(`{3,}|~{3,})[ \t]*\{?\.?([A-Za-z0-9_+#-]*)([^\n]*)$", re.MULTILINE
)
_PYTHON = frozenset(["ipython", "py", "py3", "python", "python2", "python3"])
_STRUCTURE = re.compile(r"^[ \t]*(?:async[ \t]+def|def|class|import|from)\b", re.MULTILINE)
# A block with none of these is at most an example of use: definitions, assignments, something that reads input.
_SUBSTANCE = re.compile(
    rf"{_STRUCTURE.pattern}|^[ \t]*[A-Za-z_][\w, \t]*(?::[^\n=]{{1,80}})?=(?!=)|\binput\(|\bstdin\b|\bopen\(0",
    re.MULTILINE,
)


# ---------------------------------------------------------------------------------------------------------- extraction


def take_program(text: str) -> Extraction:
    """The fenced blocks marked python (else those without a language), else all of a response without fences.

    A block that is not closed was cut off. It counts, and fails its tests if anything is missing.
    """
    fences = _fences(text)
    blocks = [(language, block.rstrip()) for language, block in _blocks(text, fences) if block.strip()]
    if not fences or _only_closes(text, fences, bool(blocks)):
        bare = (text[: fences[0].start()] if fences else text).strip("\n").rstrip()
        return Extraction(answer=bare if bare.strip() else None, candidates=1 if bare.strip() else 0)
    plain = [block for language, block in blocks if not language]
    marked = [block for language, block in blocks if language in _PYTHON]
    kept = [block for block in plain if _STRUCTURE.search(block)] + marked if marked else plain
    kept = [block for block in kept[:-1] if _SUBSTANCE.search(block)][1 - _MAX_BLOCKS :] + kept[-1:]
    return Extraction(answer=f"\n{_BOUNDARY}\n".join(kept) or None, candidates=len(blocks))


def _only_closes(text: str, fences: list[re.Match[str]], more: bool) -> bool:
    """Whether the only fence ends a block that the prompt opened: nothing follows it, or indented code comes before it."""
    return len(fences) == 1 and not fences[0][3] and (not more or text.lstrip("\n")[:1] in (" ", "\t"))


def _fences(text: str) -> list[re.Match[str]]:
    """Lines that open or close a block. After a fence of backticks the line has no more backticks (else it is inline code)."""
    return [fence for fence in _FENCE.finditer(text) if "`" not in fence[4]]


def _blocks(text: str, fences: list[re.Match[str]]) -> Iterator[tuple[str, str]]:
    """Language and text of each block, without the indentation of its fence (CommonMark 0.31, section 4.5)."""
    opening: re.Match[str] | None = None
    for fence in fences:
        if opening is None:
            opening = fence
        elif _closes(opening, fence):
            yield opening[3].lower(), _inside(opening, text[opening.end() + 1 : fence.start()])
            opening = fence if fence[3] else None
    if opening is not None:
        yield opening[3].lower(), _inside(opening, text[opening.end() + 1 :])


def _closes(opening: re.Match[str], fence: re.Match[str]) -> bool:
    """Whether a fence ends a block: a bare fence, not deeper; or a new Python block where the end was forgotten."""
    if fence[2][0] != opening[2][0] or len(fence[2]) < len(opening[2]):
        return False
    if fence[3]:
        return fence[3].lower() in _PYTHON and len(fence[1]) <= len(opening[1])
    return len(fence[1]) <= len(opening[1]) + 3


def _inside(opening: re.Match[str], block: str) -> str:
    prefix = opening[1]
    if ">" in prefix:
        block = re.sub(r"^[ \t]*>[ ]?", "", block, flags=re.MULTILINE)
        prefix = prefix.rpartition(">")[2].removeprefix(" ")
    return re.sub(rf"^[ \t]{{1,{len(prefix)}}}", "", block, flags=re.MULTILINE) if prefix else block


# ------------------------------------------------------------------------------------------------------------ identity


_PARSED_CHARS = 20_000
_DEEP = re.compile(r"[-+~(\[{!]{100}|(?:not ){100}")


def _is_parsed(code: str) -> bool:
    """Whether code may be parsed: not if it is very long, or looks made to exhaust a parser."""
    return len(code) <= _PARSED_CHARS and not _DEEP.search(code)


def program_key(answer: str) -> str:
    """A digest of the blocks' syntax trees; of the text for a block that does not parse."""
    keys = [_block_key(block) for block in _split(answer)]
    return keys[0] if len(keys) == 1 else hashlib.sha256("".join(keys).encode()).hexdigest()


def _block_key(code: str) -> str:
    kept = code
    if _is_parsed(code):
        with _quietly():
            kept = ast.dump(ast.parse(code))
    return hashlib.sha256(kept.encode("utf-8", "surrogatepass")).hexdigest()


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Suppress what parsing a sample raises (the block ends there), and its warnings ("invalid escape sequence")."""
    with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _split(answer: str) -> list[str]:
    return answer.split(f"\n{_BOUNDARY}\n")


# -------------------------------------------------------------------------------------------------------------- choice


@dataclass(frozen=True)
class _Block:
    """``made``: the global names that a block defines; ``imported``: those it imports; ``needed``: those it lacks."""

    text: str
    parses: bool
    made: frozenset[str]
    structures: frozenset[str]  # of made, the functions and classes
    imported: frozenset[str] = frozenset()
    needed: frozenset[str] = frozenset()
    reads: bool = False  # whether it reads standard input

    @property
    def defined(self) -> frozenset[str]:
        return self.made | self.imported


_NAMED = re.compile(r"^(?:async\s+)?(?:def|class)\s+(\w+)|^(\w+)\s*=(?!=)", re.MULTILINE)
_READS = re.compile(r"\binput\(|\bstdin\b|\bopen\(0")


def _read(code: str) -> _Block:
    """What a block defines and needs, from its syntax alone, so that blocks with equal trees are treated alike."""
    tree, table = None, None
    if _is_parsed(code):
        with _quietly():
            tree, table = ast.parse(code), symtable.symtable(code, "sample.py", "exec")
    if tree is None or table is None:
        names = frozenset(name for pair in _NAMED.findall(code) for name in pair if name)
        return _Block(text=code, parses=False, made=names, structures=names, reads=bool(_READS.search(code)))
    structures = frozenset(symbol.get_name() for symbol in table.get_symbols() if symbol.is_namespace())
    made = structures | {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned()}
    imported = frozenset(symbol.get_name() for symbol in table.get_symbols() if symbol.is_imported())
    needed = frozenset(_global_names(table)) - made - imported - set(dir(builtins))
    reads = any(_reads(node) for node in ast.walk(tree))
    return _Block(
        text=code, parses=True, made=made, structures=structures, imported=imported, needed=needed, reads=reads
    )


def _global_names(table: symtable.SymbolTable) -> Iterator[str]:
    pending = [table]
    while pending:
        inner = pending.pop()
        pending += inner.get_children()
        for symbol in inner.get_symbols():
            if symbol.is_referenced() and (inner is table or symbol.is_global()):
                yield symbol.get_name()


def _reads(node: ast.AST) -> bool:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        first = node.args[0] if node.args else None
        return node.func.id == "input" or (
            node.func.id == "open" and isinstance(first, ast.Constant) and first.value == 0
        )
    return (isinstance(node, ast.Name) and node.id == "stdin") or (
        isinstance(node, ast.Attribute) and node.attr == "stdin"
    )


def defined_names(code: str) -> tuple[frozenset[str], bool]:
    """The global names that code defines, and whether it parses as a program."""
    block = _read(code)
    return block.defined, block.parses


def choose_program(answer: str, *wanted: frozenset[str]) -> str:
    """The last block that defines the most of the wanted names, with the other blocks that define what it lacks.

    ``wanted`` are sets of names in order of preference; a later set counts where no block defines a name of an earlier one.
    Where no block defines any, it is the last block that reads input, else the last that continues a prompt, else the last.
    """
    blocks = [_dedented(_read(text), frozenset().union(*wanted)) for text in _split(answer)]
    names = next((names for names in wanted if any(names & block.made for block in blocks)), frozenset[str]())
    main = _without_names(blocks)
    if names:
        main = max(range(len(blocks)), key=lambda at: (len(names & blocks[at].made), at))
    helpers = _helpers(blocks, main, names)
    return "\n\n".join(blocks[at].text for at in [*sorted(helpers), main])


def _dedented(block: _Block, wanted: frozenset[str]) -> _Block:
    """A program that is indented as a whole, without the indentation; a function body that continues a prompt keeps it."""
    if block.parses or not block.text[:1].isspace():
        return block
    flush = _read(textwrap.dedent(block.text))
    return flush if flush.parses and (flush.made & wanted or not wanted) else block


def _without_names(blocks: list[_Block]) -> int:
    readers = [at for at, block in enumerate(blocks) if block.reads]
    bodies = [at for at, block in enumerate(blocks) if not block.parses and block.text[:1].isspace()]
    return (readers or bodies or [len(blocks) - 1])[-1]


def _helpers(blocks: list[_Block], main: int, wanted: frozenset[str]) -> set[int]:
    """The helper blocks: for each name that the main block needs, the last earlier block that defines it, else the next."""
    chosen: set[int] = set()
    known = set(blocks[main].defined)
    lacking = sorted(blocks[main].needed | wanted)
    while lacking:
        name = lacking.pop()
        if name in known:
            continue
        known.add(name)
        before = [at for at in range(main) if blocks[at].parses and name in blocks[at].defined]
        after = [at for at in range(main + 1, len(blocks)) if blocks[at].parses and name in blocks[at].structures]
        for at in before[-1:] or after[:1]:
            chosen.add(at)
            known |= blocks[at].defined
            lacking += sorted(blocks[at].needed)
    return chosen
