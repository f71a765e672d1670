# ruff: noqa: E501  the tables are easier to read in long rows
"""Which blocks of a response are code, and which of them a problem's tests need."""

from __future__ import annotations

import time

import pytest

from rlvr_bench.verifiers.extraction import open_policy
from rlvr_bench.verifiers.programs import choose_program, program_key, take_program

ADD = "def add(x):\n    return x + 1"
WANTED = frozenset(["add"])


def fenced(*blocks: str) -> str:
    return "\nand then\n".join(f"```python\n{block}\n```" for block in blocks)


def chosen(response: str, *wanted: str) -> str | None:
    answer = open_policy("code")(response).answer
    return None if answer is None else choose_program(answer, *(frozenset([name]) for name in wanted))


INDENTED = ADD.replace("\n", "\n    ")
LAYOUTS = [
    f"```python\n{ADD}\n```", f"```python3\n{ADD}\n```", f"```py\n{ADD}\n```", f"```Python\n{ADD}\n```", f"``` python\n{ADD}\n```", f"```{{python}}\n{ADD}\n```", f'```python title="a.py"\n{ADD}\n```', f"````python\n{ADD}\n````", f"~~~python\n{ADD}\n~~~", f"```\n{ADD}\n```",
    f"- Here:\n\n    ```python\n    {INDENTED}\n    ```\n", "1. Here:\n   ```python\n   def add(x):\n       return x + 1\n   ```", "- ```python\n  def add(x):\n      return x + 1\n  ```", "> ```python\n> def add(x):\n>     return x + 1\n> ```", f"\t```python\n\t{ADD}\n\t```".replace("\n    ", "\n\t    "),
    f"```python\n    {INDENTED}\n```", f"Here:\n```python\n{ADD}", ADD, f"```python\ndef add(x):\n    return 0\n\nNow better:\n```python\n{ADD}\n```", f"```text\nadd\n```\n```python\n{ADD}\n```\n```bash\npython add.py\n```",
]  # fmt: skip


@pytest.mark.parametrize("response", LAYOUTS)
def test_a_block_is_found_whatever_its_fence_and_indentation(response: str) -> None:
    assert chosen(response, "add") == ADD


def test_a_fence_within_a_docstring_ends_no_block() -> None:
    code = 'def add(x):\n    """\n    ```\n    add(1)\n    ```\n    """\n    return x + 1'
    assert chosen(fenced(code), "add") == code


def test_the_fence_that_closes_a_block_of_the_prompt_is_no_code() -> None:
    assert chosen("    return x + 1\n```", "add") == "    return x + 1"
    assert chosen("    return x + 1\n```\nThis adds one.", "add") == "    return x + 1"


@pytest.mark.parametrize(
    "example",
    [
        "print(add(3))", "x = 3\nprint(add(x))", "assert add(1) == 2", "from solution import add\nprint(add(3))", "import unittest\nclass Tests(unittest.TestCase):\n    def test_add(self):\n        self.assertEqual(add(1), 2)",
        "def main():\n    print(add(int(input())))\nmain()", "result = add(",
    ],
)  # fmt: skip
def test_an_example_of_use_is_left_out(example: str) -> None:
    assert chosen(fenced(ADD, example), "add") == ADD
    assert chosen(fenced(example, ADD), "add") == ADD


def test_the_last_definition_counts() -> None:
    assert chosen(fenced("def add(x):\n    return x", ADD), "add") == ADD


@pytest.mark.parametrize(
    ("blocks", "kept"),
    [
        (["def inc(x):\n    return x + 1", "def add(x):\n    return inc(x)"], [0, 1]),
        (["def add(x):\n    return inc(x)", "def inc(x):\n    return x + 1"], [1, 0]),
        (["K = 1", "def inc(x):\n    return x + K", "def add(x):\n    return inc(x)", "print(add(1))"], [0, 1, 2]),
        (["import numpy as np", "def add(x):\n    return np.add(x, 1)"], [0, 1]),
        (["x = 5\nprint(x)", ADD], [1]),
    ],
)
def test_blocks_that_the_definition_needs_come_with_it(blocks: list[str], kept: list[int]) -> None:
    assert chosen(fenced(*blocks), "add") == "\n\n".join(blocks[at] for at in kept)


def test_names_wanted_together_and_names_in_order_of_preference() -> None:
    answer = take_program(fenced("def f(): pass", "def g(): pass", "print(f(), g())")).answer or ""
    assert choose_program(answer, frozenset(["f", "g"])) == "def f(): pass\n\ndef g(): pass"
    answer = take_program(fenced("class Solution: pass", "def f(): pass")).answer or ""
    assert choose_program(answer, frozenset(["Solution"]), frozenset(["f"])) == "class Solution: pass"


def test_a_program_that_reads_input_is_preferred_where_no_name_is_wanted() -> None:
    reads = "import sys\nprint(sum(map(int, sys.stdin.read().split())))"
    assert chosen(fenced(reads, "numbers = [1, 2]\nprint(sum(numbers))")) == reads
    assert chosen(fenced("a = 1\nprint(a)", "print(2)")) == "print(2)"


def test_the_key_ignores_layout_in_every_block_and_nothing_else() -> None:
    def key(*blocks: str) -> str:
        return program_key(take_program(fenced(*blocks)).answer or "")

    helper = "def inc(x):\n    return x"
    assert key(helper, ADD) == key(helper + "  # one\n", "# two\n" + ADD)
    assert len({key(helper, ADD), key(ADD, helper), key(ADD), key(f"{helper}\n{ADD}")}) == 4
    for block in ("print(add(1))  # input(", "print(add(1))"):  # what a comment says chooses no block
        answer = take_program(fenced("n = input()\nprint(n)", "n = 1\n" + block)).answer or ""
        assert choose_program(answer) == "n = input()\nprint(n)"


@pytest.mark.parametrize("unit", ["```python\nx = 1\n```\n", "```\n", "```python\n", "~~~\n", "> " * 50 + "```\n", "- " * 50, " ", "x = 1\n", "1. ", "`"])  # fmt: skip
def test_a_flood_of_fences_takes_linear_time(unit: str) -> None:
    text = unit * (10**6 // len(unit))
    started = time.process_time()
    take_program(text)
    assert time.process_time() - started < 1.5, "a megabyte takes well under a second; quadratic code takes minutes"


@pytest.mark.parametrize(
    "block", ["(" * 10_000, "not " * 4_000 + "1", "x" * 10**5, "\ud800 = 1", "a\0b", "def add(x)\n" * 100]
)
def test_hostile_blocks_are_chosen_from_too(block: str) -> None:
    assert choose_program(take_program(fenced(block + "\nimport x", ADD)).answer or "", WANTED) == ADD
