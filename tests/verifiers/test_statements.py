# ruff: noqa: E501  the tables are easier to read in long rows
"""What ``auto`` takes from a response without a box, kind by kind; and real worked solutions against their gold answers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from rlvr_bench import verify_many
from rlvr_bench.task import load_task
from rlvr_bench.verifiers.extraction import open_policy

STATED: list[tuple[str, str | None]] = [
    # what peer harnesses ask a model to write
    ("Final answer is: 42. I hope it is correct", "42"), ("the answer is $\\frac{1}{2}$", "\\frac{1}{2}"), ("answer: 1/3", "1/3"), ("$$x=5$$", "x=5"),
    ("The final answer is $1$, $2$ and $3$", "1, 2, 3"), ("The final answer is 28%", "28%"), ("The final answer is $28\\%$.", "28\\%"), ("the final answer is $28$ percent", "28\\%"),
    # Chinese
    ("答案是 42", "42"), ("答案是42。", "42"), ("答案为：$\\frac{1}{2}$", "\\frac{1}{2}"), ("因此，小明有14个苹果。", "14"), ("所以答案是：14", "14"), ("答：一共有14个苹果。", "14"), ("最终答案：14", "14"), ("答案:\n14", "14"),
    # German, French, Spanish, Russian; a comma may be the decimal point there
    ("Die Antwort ist 42.", "42"), ("Die Antwort lautet: 3,14", "3.14"), ("Antwort: 1.234,5", "1234.5"), ("Die endgültige Antwort ist $\\frac{1}{3}$.", "\\frac{1}{3}"),
    ("La réponse est 42.", "42"), ("La réponse finale est $5$.", "5"), ("Réponse : 12", "12"), ("Donc elle gagne 18 dollars.", "18 \\text{ dollars}"), ("La respuesta es 42.", "42"),
    ("La respuesta final es: 7", "7"), ("Respuesta: 3/4", "3/4"), ("Por lo tanto, x = 5.", "x = 5"), ("Ответ: 42", "42"), ("Ответ: 3,5", "3.5"), ("Ответ — 12.", "12"),
    ("Следовательно, x = 7.", "x = 7"),
    # Japanese, Korean, Hindi, Bengali, Arabic, Thai, Turkish, Vietnamese, Portuguese, Italian
    ("答えは42です。", "42"), ("答え：15", "15"), ("したがって、答えは $x=3$ です。", "x=3"), ("정답은 42입니다.", "42"), ("답: 13", "13"), ("उत्तर: ४२", "42"), ("উত্তর হল ৪২", "42"), ("الجواب هو 42", "42"),
    ("คำตอบคือ 42", "42"), ("Cevap: 42", "42"), ("Đáp án là 42.", "42"), ("A resposta é 42.", "42"), ("La risposta è 42.", "42"),
    # money
    ("Two cost $7 + $7 = $14.\nA: 14", "14"), ("**$18**", "18"), ("\\$14", "14"), ("$2 each, so she makes $18 every day.", "18"),
    # the statement that counts
    ("The answer is:\n14", "14"), ("The largest $n$ is 14.", "14"), ("Sam needs 14.", "14"), ("The answer is 72, in total, so the farmer earns that much.", "72"),
    ("the result is 180. So James runs 540 meters", "540 \\text{ meters}"), ("Here is the solution: 9*2 = 18, so she makes 18 dollars", "18 \\text{ dollars}"),
    # matrices, unions, lists, tuples, sets, intervals without mathematical delimiters
    ("Therefore, the matrix is \\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}.", "\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}"),
    ("The solution set is (-\\infty, 2) \\cup (3, \\infty).", "(-\\infty, 2) \\cup (3, \\infty)"), ("x = 1 \\text{ or } x = 2", "x = 1 \\text{ or } x = 2"),
    ("So x = 1 or x = 2.", "x = 1, x = 2"), ("The answer is (1, 2).", "(1, 2)"), ("The set is {1, 2, 3}.", "\\{1, 2, 3\\}"), ("The domain is [2, 5).", "[2, 5)"),
    # short replies
    ("14", "14"), ("12 * 60 = 720", "720"), ("A: 14", "14"), ("... = 14", "14"), ("The total is 14", "14"), ("-14", "-14"), ("So the answer is -7.", "-7"),
    # cut at the limit of tokens
    ("First we add 5 and 9. Then we multiply the sum by 14", None), ("She has 5 apples. She buys 9 more. Then she has 5 + 9 = 14 apples and gives away 3, so she has 14 -", None),
    ("We get \\boxed{4", None), ("The answer is $\\frac{1}{2", None), ("The answer is 12 +", None),
    # numbers and units
    ("The answer is 3.5.", "3.5"), ("The answer is 1,234.", "1,234"), ("The answer is $1,234.50.", "1,234.50"), ("The answer is 5 cm.", "5 \\text{ cm}"),
    ("The answer is **5 cm**.", "5 \\text{ cm}"),
    # words
    ("Answer: Monday", "Monday"), ("The answer is \\text{Evelyn}.", "\\text{Evelyn}"), ("The answer is $\\text{Evelyn}$.", "\\text{Evelyn}"), ("The answer is east.", "east"),
    ("The answer is no solution.", "no solution"),
    # markdown
    ("### Final Answer\n\n$$\\boxed{14}$$", "14"), ("### Final Answer\n14 apples", "14"), ("## Answer: 14", "14"), ("**Answer**: 14 apples", "14"), ("> 14", "14"), ("- 14", "14"),
    ("Answer: **14**", "14"), ("`14`", "14"), ("```\n14\n```", "14"), ("Answer: `14`", "14"),
    # sentences of word problems
    ("Result: 14", "14"), ("Thus, 14.", "14"), ("Therefore: 14", "14"), ("It takes 14 days.", "14 \\text{ days}"), ("There are 14 ways to do it.", "14"),
    ("There are 14 ways to arrange 3 books on 5 shelves.", "14"), ("So, he needs to sell 14 more cars.", "14"), ("He has to pay $14.", "14"), ("She will have $14 left after 3 weeks.", "14"),
    ("After 3 weeks she will have $14 left.", "14"), ("In total, 5 + 9 = 14 dollars.", "14 \\text{ dollars}"), ("5 + 9 = 14 dollars", "14 \\text{ dollars}"), ("5 + 9 = 14 (dollars)", "14"),
    ("The ratio is 3:4.", "3:4"), ("The probability is 3/4.", "3/4"), ("The probability is 1 out of 6.", "1/6"),
    # equations and functions
    ("The value of $x$ is $5$.", "5"), ("$x = 5$ and $y = 7$", "x = 5, y = 7"), ("x=5, y=7", "x=5, y=7"), ("Hence the answer is $x^2 + 1$.", "x^2 + 1"), ("The answer is x^2 + 1.", "x^2 + 1"),
    ("f(x) = 2x + 3", "f(x) = 2x + 3"), ("The equation is y = 2x + 3.", "y = 2x + 3"),
    # explanations, negations, epilogues
    ("The answer is 14 since 7+7 = 14.", "14"), ("The answer is 14, which is twice 7.", "14"), ("The answer is 14 (that is, 7 + 7).", "14"), ("The answer is 14, because 3 + 11 = 14.", "14"),
    ("The answer is not 7, it is 9.", "9"), ("The answer is not 7.", None), ("I don't know.", None), ("I hope this helps!", None),
    ("The answer is 14. I hope this helps! Let me know if you have 2 more questions.", "14"), ("So the answer is 14.\n\nCheck: 7 + 7 = 14.", "14"),
    ("Therefore, James runs 540 meters. He runs 3 sprints, 3 times a week.", "540 \\text{ meters}"),
    # forms of numbers
    ("The answer is $\\sqrt{2}$ which is about 1.414.", "\\sqrt{2}"), ("The answer is approximately 3.14.", "3.14"), ("x ≈ 3.14", "3.14"),
    ("The final answer is $x=\\frac{1}{2}$, $y=3$.", "x=\\frac{1}{2}, y=3"), ("The answer is 2^{10}.", "2^{10}"), ("The answer is 10^5", "10^5"), ("The answer is 2.5 x 10^5", "2.5 x 10^5"),
    ("The answer is 3 1/2.", "3 1/2"), ("The answer is $3\\frac12$", "3\\frac12"), ("The answer is 50 percent.", "50\\%"), ("The answer is .5", ".5"), ("The answer is 0.5%.", "0.5%"),
    # sets, lists, displays
    ("The final answer is $\\{1, 2, 3\\}$", "\\{1, 2, 3\\}"), ("The final answer is $[0, 1)$", "[0, 1)"), ("The answers are 1, 2, and 3.", "1, 2, 3"),
    ("The answers are x=1 and x=2", "x=1, x=2"), ("The answer is\n\n\\[\n\\frac{3}{4}\n\\]", "\\frac{3}{4}"), ("The answer is\n[ \\frac{3}{4} ]", "\\frac{3}{4}"),
    ("\\begin{align*} x &= 2+3 \\\\ &= 5. \\end{align*}", "x = 5"), ("so the final answer is \\(\\frac{3}{4}\\).", "\\frac{3}{4}"), ("The final answer is 5 \\text{ cm}.", "5 \\text{ cm}"),
    ("The answer is $5 \\text{ cm}$", "5 \\text{ cm}"),
    # marks of data sets
    ("What is 7+7? It is 14.", "14"), ("Q: What is 7+7?\nA: 14", "14"), ("<answer>14</answer>", "14"), ("#### 14", "14"), ("x=5\n#### 5", "5"),
    ("The answer is 10:30 a.m.", "10:30 \\text{ a.m.}"), ("The answer is 12 hours/day", "12"),
    # more word problems
    ("There are 365 days in a year. So 365 * 2 = 730 days.", "730 \\text{ days}"), ("He earns $5 per hour, so in 3 hours he earns 5 * 3 = $15.", "15"), ("He earns $15 in 3 hours.", "15"),
    ("The cost is $15 for 3 books.", "15"), ("3 books cost $15.", "15"), ("Step 1: 5+5=10\nStep 2: 10+4=14\nStep 3: Done.", "14"), ("1. 5+5=10\n2. 10+4=14", "14"), ("The number is 14!", "14"),
    ("14 = x", "14"), ("x = 7 + 7 = 14", "x = 14"), ("The answer is A: 14", "14"), ("The solution is 14 apples and 3 oranges", "14"), ("So there are 30 - 16 = 14 apples left", "14"),
    ("30 - 16 = <<30-16=14>>14", "14"), ("The total is $3.50 + $4.50 = $8.00", "8.00"), ("Total = $8.00", "8.00"), ("Total: 8 dollars", "8 \\text{ dollars}"),
    ("She saves 8 dollars.", "8 \\text{ dollars}"), ("She saves eight dollars.", "eight"), ("The answer is eight.", "eight"),
    # formulas
    ("The answer is: $-\\frac{1}{2}$", "-\\frac{1}{2}"), ("$\\frac{1}{2}$", "\\frac{1}{2}"), ("\\frac12", "\\frac12"), ("\\(\\frac12\\)", "\\frac12"),
    ("$\\frac{1}{2}$ or $\\frac{1}{3}$", "\\frac{1}{2}, \\frac{1}{3}"), ("Answer: $5$ or $6$", "5, 6"), ("The answer is 5 or 6.", "5, 6"),
    ("the answer is $f(x)=x^2$ for all real $x$.", "f(x)=x^2"),
    # currencies, remainders, sums, areas, angles
    ("The price is €14.", "14"), ("The price is £14.50", "14.50"), ("The answer is 14€.", "14"), ("The price is 14 USD.", "14"), ("The remainder is 3 when 15 is divided by 4.", "3"),
    ("When 15 is divided by 4, the remainder is 3.", "3"), ("The sum of 5 and 9 is 14.", "14"), ("5 plus 9 equals 14.", "14"), ("5 plus 9 is 14", "14"),
    ("Therefore, the area of the triangle ABC is 6√3.", "6√3"), ("The area is 36π square units.", "36π"), ("The area is 36\\pi.", "36\\pi"), ("Area = 36π cm²", "36π \\text{ cm²}"),
    ("The angle is 30°.", "30°"), ("The angle is $30^\\circ$.", "30^\\circ"), ("The temperature is -5 degrees.", "-5 \\text{ degrees}"),
    # one value in two forms, and two values
    ("The answer is $\\frac{3}{4}$, or 0.75.", "\\frac{3}{4}"), ("The answer is 2/3 or 0.667.", "2/3"), ("The answer is 1/4 or 25%.", "1/4"), ("The answer is 200 or 201.", "200, 201"), ("The answer is 0.5 or 0.25.", "0.5, 0.25"),
    # a conclusion before a remark that calculates nothing
    ("So she has 14 apples. Also, 3 of them are red.", "14"),
    # marks within marks
    ("Final Answer: The final answer is $24$. I hope it is correct.", "24"), ("Final Answer: The final answer is 24,000. I hope it is correct.", "24,000"),
    ("The final answer is $\\boxed{24}$. I hope it is correct.", "24"), ("Thus the answer is $2+3=5$", "5"), ("The answer is: 2+3=5", "5"),
    # several numbers in a sentence
    ("The answer is 5 apples + 9 apples = 14 apples.", "14"), ("Answer: 5 + 9 = 14 apples", "14"), ("John has 5 apples and Mary has 9 apples, so together they have 14 apples.", "14"),
    ("So together they have 14 apples, not 15.", "14"), ("They have 14 apples in total (5 + 9).", "14"), ("Each of the 3 children gets 14 marbles.", "14"),
    ("Each child gets 14 of the 42 marbles.", "14"), ("So the numbers are 7 and 8.", "7, 8"), ("The two numbers are 7, 8", "7, 8"), ("x is 14", "14"), ("The value of x is therefore 14", "14"),
    ("we find x to be 14.", "14"), ("x must be 14.", "14"), ("x equals 14.", "14"), ("Solving gives x = 14, so the answer is x + 1 = 15.", "15"), ("The answer is x + 1 = 15.", "15"),
    ("The answer is therefore $7 + 7 = 14$ dollars.", "14 \\text{ dollars}"), ("The train travels at 60 mph.", "60"), ("The speed is 60 miles per hour.", "60"), ("It is 14 years old.", "14"),
    ("He is 14.", "14"), ("He is 14 years old now.", "14"),
    # formulas in sentences
    ("The answer is $\\frac{3}{4}$ and this is because $x = 3$.", "\\frac{3}{4}"), ("So the final answer is: $5\\sqrt{2}$ units", "5\\sqrt{2}"),
    ("**Therefore, the probability is $\\frac{1}{6}$.**", "\\frac{1}{6}"), ("Thus, the total amount is **$1,250.00**.", "1,250.00"), ("Thus, the total is **\\$1,250**.", "1,250"),
    ("The total cost is \\(\\$18\\).", "\\$18"), ("the answer is \\(18\\) dollars", "18 \\text{ dollars}"),
    ("### Solution\n\n1. Compute $2+3 = 5$.\n2. Multiply by 2: $5 \\times 2 = 10$.\n\nThe final result is **10**.", "10"), ("The difference is 8 - 4 = 4.\n\n**Answer:** 4.", "4"),
    ("so the number of ways is $\\binom{5}{2} = 10$.", "10"), ("There are $\\binom{5}{2} = 10$ ways.", "10"), ("Hence $\\angle ABC = 30^\\circ$.", "\\angle ABC = 30^\\circ"),
    ("Therefore, $a + b + c = 2 + 3 + 5 = \\mathbf{10}$.", "10"), ("Hence, the equation of the line is $y = 2x + 3$.", "y = 2x + 3"), ("the line is $x + 2y = 5$.", "x + 2y = 5"),
    ("So the solutions are $x = 2$ and $x = -3$.", "x = 2, x = -3"), ("So the solutions are $x = 2, -3$.", "x = 2, -3"), ("Thus $f(x) = 2x$ or $f(x) = -x$.", "f(x) = 2x, f(x) = -x"),
    # other marks
    ("$\\text{Answer: } 14$", "14"), ("Ans: 14", "14"), ("Ans. 14", "14"), ("ANSWER: 14", "14"), ("answer = 14", "14"), ("Answer - 14", "14"), ("Answer 14", "14"), ("The answer's 14.", "14"),
    ("the answer would be 14", "14"), ("I get 14 as the answer.", "14"), ("14 is the answer.", "14"), ("So 14 is the final answer.", "14"), ("Hence, the required number is 14.", "14"),
    ("We conclude that n = 14.", "n = 14"), ("It follows that the value is 14.", "14"), ("My final answer: 14!", "14"), ("I think the answer is 14, but I'm not sure.", "14"),
    ("The answer is 14, not 15.", "14"), ("The answer is 14 or so.", "14"), ("x=3\\quad\\text{or}\\quad x=4", "x=3\\quad\\text{or}\\quad x=4"),
    # money again, and code
    ("She earns $18 a day and $126 a week.", "126"), ("The cost is 18$.", "18"), ("18$", "18"), ("$18", "18"), ("It's $18.", "18"), ("Cost: $18/day", "18"),
    ("$a$ costs $5, $b$ costs $7, so together they cost $12.", "12"), ("So the answer is\n```\n14\n```", "14"), ("```python\nprint(14)\n```\nThe answer is 15.", "15"),
    ("```python\nprint(14)\n```", None), ("| x | y |\n|---|---|\n| 1 | 2 |\n\nThe answer is 14.", "14"), ("The answer is 14.\n\n---\n\nNote: 7 + 7 = 14 and 5 + 5 = 10.", "14"),
    ("Answer: 14\n\nExplanation: 7 + 7 = 14, then 20 - 6 = 14. We used 3 steps.", "14"), ("14\n\nExplanation: 7 + 7 = 14", "14"),
    # second thoughts
    ("Wait, the answer is 15. No, the answer is 14.", "14"), ("Is the answer 15? No. It is 14.", "14"), ("So the perimeter is 4 × 3.5 = 14 cm.", "14 \\text{ cm}"), ("so 14", "14"),
    ("So, 14 apples.", "14"),
    # bare delimiters
    ("\\textbf{14}", "14"), ("\\(14\\)", "14"), ("\\[14\\]", "14"), ("$$14$$", "14"), ("$ 14 $", "14"), ("The answer is $14", "14"), ("The answer is 14$", "14"), ("The answer is $14.$", "14"),
    ("The answer is: \\( \\frac{1}{2} \\) .", "\\frac{1}{2}"), ("The answer is -\\frac{1}{2}.", "-\\frac{1}{2}"), ("the answer is 1/2 of the total", "1/2"),
    ("The answer is one half.", "one half"),
    # other languages again
    ("答案：14元", "14"), ("答案是 $14$ 。", "14"), ("答案是：x=14", "x=14"), ("因此，答案为14。", "14"), ("所以小红一共有 3+4=7 个苹果。", "7"), ("综上所述，a=3或a=-1。", "a=3, a=-1"), ("所以，共需要14天", "14"),
    ("Also beträgt die Summe 14.", "14"), ("Das Ergebnis ist 14.", "14"), ("Le résultat est 14.", "14"), ("Donc la réponse est 3,5.", "3.5"), ("El resultado es 14.", "14"),
    ("La respuesta es $\\frac{1}{2}$.", "\\frac{1}{2}"), ("Таким образом, ответ равен 14.", "14"), ("Итак, x = 14.", "x = 14"), ("よって、答えは14である。", "14"), ("따라서 답은 14입니다.", "14"),
    # expressions of every kind after a mark
    ("The final answer is $f(x) = \\begin{cases} 1 & x > 0 \\\\ 0 & x \\le 0 \\end{cases}$.", "f(x) = \\begin{cases} 1 & x > 0 \\\\ 0 & x \\le 0 \\end{cases}"), ("Answer: [2, 5)", "[2, 5)"),
    ("Answer: (-1, 3]", "(-1, 3]"), ("Answer: x > 3", "x > 3"), ("Answer: x >= 3", "x >= 3"), ("Answer: 2 < x < 3", "2 < x < 3"), ("x \\in [0, 1)", "x \\in [0, 1)"),
    ("Answer: 3 + 4i", "3 + 4i"), ("Answer: sqrt(2)/2", "sqrt(2)/2"), ("Answer: 2*pi", "2*pi"), ("Answer: 2 pi", "2 pi"), ("Answer: e^2", "e^2"), ("Answer: ln(2)", "ln(2)"),
    ("Answer: n(n+1)/2", "n(n+1)/2"), ("Answer: (x+1)(x-2)", "(x+1)(x-2)"), ("Answer: |x|", "|x|"), ("Answer: x", "x"), ("Answer: $x$", "x"), ("Answer: AB", "AB"), ("Answer: yes", "yes"),
    ("Answer: ±3", "±3"), ("Answer: \\pm 3", "\\pm 3"), ("Answer: 3%", "3%"), ("Answer: 1.5e10", "1.5e10"), ("Answer: 10^{-3}", "10^{-3}"), ("Answer: 3:4", "3:4"),
    ("Answer: 1, 2, 3, ...", "1, 2, 3, \\ldots"), ("Answer: \\infty", "\\infty"), ("Answer: ∞", "∞"), ("Answer: 2√3", "2√3"), ("Answer: ½", "½"), ("Answer: a = 3, b = 4", "a = 3, b = 4"),
    ("Answer: (a, b) = (3, 4)", "(3, 4)"), ("Answer: 2x + 3y = 7", "2x + 3y = 7"), ("Answer: 14 cm^2", "14 \\text{ cm^2}"), ("Answer: 101_2", "101_2"), ("Answer: $101_2$", "101_2"),
    ("Answer: 14\\%", "14\\%"), ("Answer: x^2 - 5x + 6 = 0", "x^2 - 5x + 6 = 0"),
]  # fmt: skip


@pytest.mark.parametrize(("response", "answer"), STATED)
def test_the_answer_that_a_response_states(response: str, answer: str | None) -> None:
    assert open_policy("auto")(response).answer == answer


# A response of max_tokens ends anywhere. Where it ends must not decide that a number in it is an answer.
LONG = "Each box holds 12 pens. The shop has 30 boxes and sells 18 of them. We want the pens that are left. "
CUT = [
    "So we take the 30 boxes and subtract 18", "Then we multiply 12 by 12", "The shop keeps 12 boxes and each box holds 12", "Since there are 12", "Then 12 +", "so 12 \\times", "which is (12",
    "and 12 of the", "so $12 \\cdot 12", "so \\[ 12 \\cdot 12 = 144", "so \\boxed{144", "The answer is 12 *", "The answer is $\\frac{144}{", "The answer is \\frac{144}{1",
]  # fmt: skip


@pytest.mark.parametrize("end", CUT)
def test_a_cut_response_gives_no_answer(end: str) -> None:
    assert open_policy("auto")(LONG + end).answer is None


@pytest.mark.parametrize(
    "end",
    [
        "So 144",
        "so 12 * 12 = 144",
        "A: 144",
        "The total is 144",
        "144",
        "The shop keeps 144.",
        "The shop keeps 144 pens",
        "The shop keeps $144$",
        "The answer is 144",
    ],
)
def test_a_finished_response_without_a_full_stop_gives_its_answer(end: str) -> None:
    assert open_policy("auto")(LONG + "\n" + end).answer == "144"


def test_a_statement_before_a_cut_epilogue_counts() -> None:
    assert open_policy("auto")(LONG + "The answer is 144. We can check this by dividing 144 by the").answer == "144"


@pytest.mark.parametrize(
    ("response", "candidates"),
    [("The answer is 5. The answer is 5.", 1), ("The answer is 5. No, the answer is 7.", 2), ("5 + 9 = 14, 14 + 3 = 17, so she has 17 dollars.", 1), ("\\boxed{5} \\boxed{5}", 2), ("I cannot say what that would be.", 0)],
)  # fmt: skip
def test_candidates_are_stated_answers_not_numbers(response: str, candidates: int) -> None:
    extraction = open_policy("auto")(response)
    assert extraction.candidates == candidates


def test_a_statement_before_a_long_epilogue_is_found() -> None:
    assert (
        open_policy("auto")("We add. The answer is 14. " + "This makes sense because of what was said. " * 80).answer
        == "14"
    )


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("annotated", [True, False])
def test_worked_solutions_of_gsm8k_are_accepted(data_dir: Path, annotated: bool) -> None:
    pairs = []
    for row in rows(data_dir, "gsm8k"):
        solution, _, gold = row["answer"].rpartition("####")
        pairs.append((solution.rstrip() if annotated else re.sub(r"<<[^>]*>>", "", solution.rstrip()), gold.strip()))
    missed = sum(verdict.status != "correct" for verdict in verify_many(pairs, extract="auto"))
    assert missed <= 10


def test_worked_solutions_of_math500_are_accepted_with_and_without_their_box(data_dir: Path) -> None:
    solved = [(row["solution"], row["answer"]) for row in rows(data_dir, "math500")]
    bare = [(solution.replace("\\boxed", ""), gold) for solution, gold in solved]
    assert all(verdict.status == "correct" for verdict in verify_many(solved, extract="auto"))
    assert sum(verdict.status == "correct" for verdict in verify_many(bare, extract="auto")) >= 465


@pytest.mark.parametrize(("name", "fewest"), [("minerva_math", 205), ("olympiadbench", 495)])
def test_worked_solutions_of_other_sets_are_accepted_without_their_boxes(
    data_dir: Path, name: str, fewest: int
) -> None:
    problems = load_task(name, data_dir).problems
    bare = []
    for row, problem in zip(rows(data_dir, name), problems, strict=True):
        solution = row["solution"] if isinstance(row["solution"], str) else row["solution"][0]
        bare.append((re.sub(r"\\(?:boxed|fbox)", "", solution), problem.answer))
    assert sum(verdict.status == "correct" for verdict in verify_many(bare, extract="auto")) >= fewest
