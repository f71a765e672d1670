# ruff: noqa: E501  the tables are easier to read in long rows
from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr_bench.errors import VerifierError
from rlvr_bench.verifiers.extraction import POLICIES, open_policy

BOXED = [
    ("so \\boxed{42}.", "42"), ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"), ("\\boxed{4} and \\boxed{5}", "4, 5"), ("\\boxed {6}", "6"), ("\\fbox{7}", "7"),
    ("first \\boxed{1}, then \\boxed{2", "1"), ("\\boxed{\\{1,2\\}}", "\\{1,2\\}"), ("\\boxed{x \\in \\left\\{ 1 \\right.}", "x \\in \\left\\{ 1 \\right."),
    ("\\boxed{\\text{a } b}", "\\text{a } b"), ("Put it in \\boxed{}.", None), ("\\boxed{9}. I put it in \\boxed{}.", "9"), ("no box", None), ("", None),
    ("\\boxed", None), ("\\boxed 5", "5"), ("\\boxed{\\boxed{3}}", "3"), ("\\boxed{a\nb}", "a\nb"), ("\\boxed{ 5 }", "5"), ("\\boxed{1}}}}", "1"),
    ("\\boxed{1}{\\boxed{", "1"), ("\\boxed{\\boxed{8}", "8"), ("\\boxedtext{1} \\boxed{2}", "2"), ("\\boxed{a\\\\}", "a\\\\"),
]  # fmt: skip


# Boxes without braces, other names, and boxes that together are a list.
BOXES = [
    ("\\boxed5", "5", False), ("$\\boxed 5$ is it", "5", False), ("\\boxed\\frac12$", "\\frac12", False), ("\\boxed\\frac{1}{2}.", "\\frac{1}{2}", False), ("{\\boxed5}", "5", False), ("\\boxed -3.", "-3", False), ("$\\boxed x$", "x", False),
    ("\\framebox{42}", "42", False), ("\\framebox[2cm][c]{42}", "42", False), ("\\fbox{42}", "42", False), ("use \\boxed notation", None, False), ("\\boxed{4", None, False), ("\\boxed4 and \\boxed{", "4", False),
    ("\\boxed{3}, \\boxed{5}", "3, 5", True), ("$\\boxed{3}$ and $\\boxed{5}$", "3, 5", True), ("\\boxed{3}; \\boxed{5}", "3, 5", True), ("\\boxed{3}\n\n\\boxed{5}", "3, 5", True), ("\\[\\boxed{3}\\]\n\\[\\boxed{5}\\]", "3, 5", True),
    ("\\boxed{1}, \\boxed{2}, and \\boxed{3}", "1, 2, 3", True), ("$x=\\boxed{4}$ or $x=\\boxed{5}$", "4, 5", True), ("\\boxed{3} \\text{ and } \\boxed{5}", "3, 5", True), ("\\boxed{3}\\quad\\boxed{5}", "3, 5", True),
    ("\\boxed{5}, \\boxed{5}", "5", False), ("\\boxed{5}. So it is \\boxed{5}", "5", False), ("first \\boxed{3}, then we find \\boxed{5}", "5", False), ("\\boxed{3}\\boxed{5}", "5", False), ("\\boxed{3}. \\boxed{5}", "5", False), ("\\boxed{1} is wrong. \\boxed{3}, \\boxed{5}", "3, 5", True),
]  # fmt: skip


@pytest.mark.parametrize(("response", "answer", "joined"), BOXES)
@pytest.mark.parametrize("policy", ["boxed", "auto"])
def test_boxes_of_every_form_and_lists_of_boxes(policy: str, response: str, answer: str | None, joined: bool) -> None:
    taken = open_policy(policy)(response)
    if policy == "boxed" or answer is not None:
        assert (taken.answer, taken.joined) == (answer, joined)


@pytest.mark.parametrize(("response", "answer"), BOXED)
def test_boxed(response: str, answer: str | None) -> None:
    assert open_policy("boxed")(response).answer == answer


def test_candidates_are_counted() -> None:
    boxed = open_policy("boxed")
    assert boxed("none").candidates == 0
    assert boxed("\\boxed{1} \\boxed{2} \\fbox{3}").candidates == 3


@pytest.mark.parametrize(
    ("response", "answer", "unfinished"),
    [
        ("<think>\\boxed{1}</think> \\boxed{2}", "2", False),
        ("<think>\\boxed{1}</think> none", None, False),
        ("<think>\\boxed{1}", None, True),
        ("\\boxed{1}</think>\\boxed{2}", "2", False),
        ("<think>a</think>\\boxed{1}<think>\\boxed{2}", None, True),
        ("<think>a</think>\\boxed{1}<think>b</think>\\boxed{2}", "2", False),
        ("<think>a</think>b</think>\\boxed{2}", "2", False),
        ("<think>5</think>\\boxed{5", None, False),
    ],
)
def test_only_what_follows_the_thought_answers(response: str, answer: str | None, unfinished: bool) -> None:
    taken = open_policy("boxed")(response)
    assert (taken.answer, taken.unfinished_thought) == (answer, unfinished)


THOUGHTS = [
    # a mark that the text talks about
    ("Put it after the `<think>` mark. \\boxed{5}", "5", False), ("I use <think> tags to think. \\boxed{5}", "5", False), ('The "<think>" mark: \\boxed{5}', "5", False), ("(see <think>, above) \\boxed{5}", "5", False),
    # a thought that the response, or a line of it, opens
    ("<think> \\boxed{5}", None, True), ("  <think>\\boxed{5}", None, True), ("Sure.\n<think>\n\\boxed{5}", None, True), ("Let us see.<think>\\boxed{5}", None, True), ("<|im_start|>assistant\n<think>\\boxed{5}", None, True),
    # other marks
    ("<thinking>\\boxed{1}</thinking>\\boxed{2}", "2", False), ("<thinking>\\boxed{1}", None, True), ("<reasoning>\\boxed{1}</reasoning>\n\\boxed{2}", "2", False), ("[THINK]\\boxed{1}[/THINK]\\boxed{2}", "2", False), ("[THINK]\\boxed{1}", None, True),
    ("<|channel|>analysis<|message|>\\boxed{1}<|end|><|start|>assistant<|channel|>final<|message|>\\boxed{2}", "2", False), ("<|channel|>analysis<|message|>\\boxed{1}", None, True), ("◁think▷\\boxed{1}◁/think▷\\boxed{2}", "2", False),
    ("if x < 5 then \\boxed{5}", "5", False), ("\\boxed{5}<|im_end|>", "5", False), ("\\boxed{5}</s>", "5", False),
]  # fmt: skip


@pytest.mark.parametrize(("response", "answer", "unfinished"), THOUGHTS)
def test_a_quoted_mark_opens_no_thought(response: str, answer: str | None, unfinished: bool) -> None:
    taken = open_policy("boxed")(response)
    assert (taken.answer, taken.unfinished_thought) == (answer, unfinished)


def test_a_pattern_without_a_group_is_refused_with_how_to_mend_it() -> None:
    with pytest.raises(VerifierError, match=r"has no group: put the part that is the answer in parentheses"):
        open_policy("regex:Answer: .+")


# What a line, a tag or a group adds to the answer is left out.
ADDED = [
    ("gsm8k", "#### 3 (three)", "3"), ("gsm8k", "#### **72**", "72"), ("gsm8k", "#### The answer is 72.", "72"), ("gsm8k", "#### 72\n#### Explanation", "72"), ("gsm8k", "##### 72", None), ("gsm8k", "#### -3", "-3"), ("gsm8k", "#### $18.00", "18.00"), ("gsm8k", "#### Paris", "Paris"),
    ("tagged:answer", "<answer>The answer is 5</answer>", "5"), ("tagged:answer", "<answer>The answer is \\boxed{5}.</answer>", "5"), ("tagged:answer", "<answer>(1+2)*3</answer>", "(1+2)*3"), ("tagged:answer", "<answer>x = 5</answer>", "x = 5"), ("tagged:answer", "<answer>**5**</answer>", "**5**"),
    ("regex:(?i)answer:\\s*(.+)", "**Answer:** 5", "5"), ("regex:(?i)answer:\\s*(.+)", "Answer: 5 <|im_end|>", "5"), ("regex:(?i)answer:\\s*(.+)", "**Answer: 5**", "5"), ("regex:(?i)answer:\\s*(.+)", "Answer: 2**3", "2**3"),
]  # fmt: skip


@pytest.mark.parametrize(("policy", "response", "answer"), ADDED)
def test_what_is_added_to_an_answer_is_left_out(policy: str, response: str, answer: str | None) -> None:
    assert open_policy(policy)(response).answer == answer


CASES = [
    ("gsm8k", "She makes 18.\n#### 18", "18"), ("gsm8k", "#### 1\n#### 2", "2"), ("gsm8k", "#### $1,234.\nThank you", "1,234"), ("gsm8k", "18", None), ("gsm8k", "####\n18", "18"), ("gsm8k", "#### ", None),
    ("choice", "The answer is (C).", "C"), ("choice", "Answer: B", "B"), ("choice", "**Answer: D**", "D"), ("choice", "\\boxed{C}", "C"), ("choice", "\\boxed{\\text{(B)}}", "B"), ("choice", "\\boxed{A) 5}", "A"),
    ("choice", "A or B?\nThe correct answer is D", "D"), ("choice", "first the answer is A\nno, the answer is B", "B"), ("choice", "Reasoning.\nC", "C"), ("choice", "Reasoning.\n(C)", "C"), ("choice", "Reasoning.\nC. because", "C"),
    ("choice", "the answer is A number", None), ("choice", "I do not know", None), ("choice", "", None), ("choice", "the final answer is: $\\boxed{E}$", "E"),
    ("tagged:answer", "<answer>1</answer> <answer> 2 </answer>", "2"), ("tagged:answer", "<answer>1", None), ("tagged:answer", "1</answer>", None), ("tagged:answer", "<answer></answer>", None), ("tagged:x", "<answer>1</answer>", None),
    ("regex:Result: (\\d+)", "Result: 1\nResult: 22", "22"), ("regex:(\\d+)", "a 1 b 23", "23"), ("regex:(?P<unit>\\w) (?P<answer>\\d)", "m 5", "5"), ("regex:^x=(.*)$", "x=1\nx=2\ny=3", "2"), ("regex:(z)", "a", None),
    ("auto", "so \\boxed{3} and 4", "3"), ("auto", "The final answer is $\\frac{1}{2}$. I hope it is correct.", "\\frac{1}{2}"), ("auto", "The answer is 18. She started with 16 eggs.", "18"), ("auto", "The answer is 3.5. Then", "3.5"),
    ("auto", "The answer is 42.", "42"), ("auto", "Final Answer: **12**", "12"), ("auto", "\\frac{1}{2}", "\\frac{1}{2}"), ("auto", "42", "42"),
    ("auto", "We add the numbers and get, after all that work, the value $x=5$ in the end", "x=5"), ("auto", "We add all of the numbers and in the end we get 1,234 in total.", "1,234"), ("auto", "", None), ("auto", "<think>42", None),
    ("whole", " everything ", "everything"), ("whole", "<think>a</think> b", "b"),
]  # fmt: skip


@pytest.mark.parametrize(("policy", "response", "answer"), CASES)
def test_policies(policy: str, response: str, answer: str | None) -> None:
    assert open_policy(policy)(response).answer == answer


@pytest.mark.parametrize("spec", ["", "box", "regex", "regex:", "tagged:", "regex:(", "regex:\\d+", "boxed:1"])
def test_unknown_policies_are_refused(spec: str) -> None:
    with pytest.raises(VerifierError):
        open_policy(spec)


FLOODS = {
    "unclosed boxes": "\\boxed{" * 150_000, "closed boxes": "\\boxed{1}" * 110_000, "empty boxes": "\\boxed{}" * 125_000, "nested boxes": "\\boxed{" * 70_000 + "1" + "}" * 70_000, "bare boxes": "\\boxed" * 160_000,
    "boxes and spaces": ("\\boxed" + " " * 1000) * 1000, "one long space": "\\boxed" + " " * 1_000_000, "braces": "\\boxed{" + "{" * 1_000_000, "thoughts": "<think>" * 140_000 + "</think>", "closed thoughts": "<think></think>" * 66_000, "hashes": "#" * 1_000_000,
    "answers": "answer is " * 100_000, "answer spaces": "answer" + " " * 1_000_000, "dollars": "$" * 1_000_000, "dollar pairs": "$a " * 333_000, "brackets": "\\(" * 500_000, "tags": "<answer>" * 125_000, "closing tags": "</answer>" * 110_000,
    "digits": "1" * 1_000_000, "commas": "1," * 500_000, "stars": "*" * 1_000_000, "backslashes": "\\" * 1_000_000, "letters": "A" * 1_000_000, "lines": "\n" * 1_000_000, "answer stars": ("answer is " + "*" * 900) * 1000,
}  # fmt: skip
FLOODS |= {
    "fences": "```\n"*250_000, "formulas": "$x$ "*250_000, "displays": "\\[x\\] "*150_000, "open displays": "\\["*500_000, "equals": "x = "*250_000, "therefore": "Therefore 1, "*80_000,
    "numbers": "1 "*500_000, "and": "1 and "*160_000, "money": "$1 "*330_000, "parens": "("*1_000_000, "letters spaced": "a "*500_000, "joined boxes": "\\boxed{1}, "*100_000,
    "distinct boxes": "".join(f"\\boxed{{{i}}}, " for i in range(80_000)), "box gaps": ("\\boxed{1}"+" "*50)*18_000, "box words": ("\\boxed{1}"+"$and"*15)*14_000, "quoted thoughts": "`<think>` "*100_000,
    "framebox": "\\framebox["*100_000, "bare boxes": "\\boxed 5 "*100_000, "begin": "\\begin{align}"*80_000, "asy": "[asy]"*200_000, "calc": "<<1=1"*200_000, "percent": "5%"*500_000,
    "hash": "#### "*200_000, "hash lines": "#### x\n"*140_000, "text": "\\text{"*160_000, "underscores": "_A"*500_000, "x names": "x"+"_A"*500_000, "commas spaces": ", "*500_000, "quotes": "\""*1_000_000,
    "stars words": "*a "*330_000, "cjk": "答案是"*300_000, "so": "so "*333_000, "colons": "A: "*300_000, "answer words": "answer "*140_000, "is the answer": "is the answer "*70_000, "labels": "1. "*330_000,
    "to": "to "*300_000, "prep": "in the "*140_000, "end tokens": "<|im_end|>"*100_000, "brackets lines": "[ = ]\n"*160_000, "row": "\\\\ "*330_000, "amp": "& "*500_000, "neg": "- "*500_000,
    "minus": "-"*1_000_000,
}  # fmt: skip


@pytest.mark.parametrize("name", FLOODS)
@pytest.mark.parametrize("policy", [*POLICIES, "tagged:answer"])
def test_extraction_is_linear_on_hostile_text(policy: str, name: str) -> None:
    take, text = open_policy(policy), FLOODS[name]
    started = time.process_time()
    take(text)
    assert time.process_time() - started < 1.5, "a megabyte takes well under a second; quadratic code takes minutes"


@given(st.text(alphabet="\\boxed{}<think>/ 1#$A\nis=.,()[]*", max_size=300))
def test_no_text_breaks_extraction(text: str) -> None:
    for policy in POLICIES:
        answer = open_policy(policy)(text).answer
        assert answer is None or answer.strip()
        assert answer is None or policy == "code" or answer == answer.strip()


@given(st.text(alphabet="ab{}\\", max_size=60))
def test_the_last_box_is_what_a_plain_brace_counter_finds(inner: str) -> None:
    depth = position = 0
    while position < len(inner):
        if inner[position] == "\\":
            position += 2
            continue
        depth += {"{": 1, "}": -1}.get(inner[position], 0)
        if depth < 0:
            break
        position += 1
    content = inner if depth == 0 and position == len(inner) else None
    if content and content.strip() == content:
        assert open_policy("boxed")("x \\boxed{" + content + "}").answer == content
