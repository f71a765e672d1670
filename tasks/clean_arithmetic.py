"""Clean arithmetic: generated expressions of 1 to 20 steps, newer than any training set (after arXiv 2507.10532, section 4.3).

As in that paper's RandomCalculation, the elements are integers from 0 to 100 and fractions, squares and cubes of them, and the
steps are additions, subtractions, multiplications and divisions. The code is our own, and two things differ: the answer is an
exact fraction, so that it is right or wrong, and a step whose result has more than nine digits above or below the line is drawn
again. ``clean_arithmetic:steps=5,size=300,seed=7`` asks for expressions of one length, or for others than everybody's: take a
seed of your own to be sure that nobody has trained on the problems.
"""

import random
from fractions import Fraction

from rlvr_bench.datasets import Generated
from rlvr_bench.errors import TaskError
from rlvr_bench.records import Problem, SamplingParameters
from rlvr_bench.task import Case, Task, join_parameters, split_parameters

SEED = 20250714
MOST_STEPS = 20
MOST_PROBLEMS = 20_000
LARGEST = 10**9
PREFIX = "Compute the exact value of this expression, as an integer or as a fraction in lowest terms:"
LIMITS = {"steps": (1, MOST_STEPS), "size": (1, MOST_PROBLEMS), "seed": (0, 2**63)}
DEFAULTS = {"size": 200, "seed": SEED}

Term = tuple[str, Fraction, int]  # the text, its value, how tightly it binds: 1 a sum, 2 a product, 3 an element


def element(rng: random.Random) -> Term:
    """An integer from 0 to 100, or a fraction, a square or a cube of such."""
    number = rng.randrange(101)
    kind = rng.randrange(4)
    if kind == 0:
        return str(number), Fraction(number), 3
    if kind == 1:
        below = rng.randrange(1, 101)
        return f"({number}/{below})", Fraction(number, below), 3
    power = kind  # 2 or 3
    return f"{number}^{power}", Fraction(number**power), 3


def combine(left: Term, sign: str, right: Term) -> Term | None:
    """The two terms with an operator between them; None for a division by zero, or a result that is too long."""
    if sign == "/" and right[1] == 0:
        return None
    value = {
        "+": lambda a, b: a + b,
        "-": lambda a, b: a - b,
        "*": lambda a, b: a * b,
        "/": lambda a, b: a / b,
    }[sign](left[1], right[1])
    if max(abs(value.numerator), value.denominator) >= LARGEST:
        return None
    strength = 1 if sign in "+-" else 2
    first = left[0] if left[2] >= strength else f"({left[0]})"
    # On the right of - and /, and of the same strength, brackets are needed; elsewhere they only make it clear.
    second = right[0] if right[2] > strength else f"({right[0]})"
    return f"{first} {sign} {second}", value, strength


def expression(rng: random.Random, steps: int) -> Term:
    """A random expression with ``steps`` operators."""
    term = element(rng)
    done = 0
    while done < steps:
        other, sign = element(rng), rng.choice("+-*/")
        longer = combine(term, sign, other) if rng.randrange(2) else combine(other, sign, term)
        if longer is not None:
            term, done = longer, done + 1
    return term


def problem(seed: int, number: int, steps: int) -> Problem:
    text, value, _ = expression(random.Random(f"{seed}/{number}/{steps}"), steps)
    first = 5 * ((steps - 1) // 5) + 1
    return Problem(
        id=f"ca-{seed}-{number}",
        question=f"{PREFIX}\n{text}",
        answer=str(value),
        tier=f"{first:02d} to {first + 4:02d} steps",
        data={"steps": steps},
    )


def make_task(parameters: str) -> Task:
    """The task of one length, size or seed: ``steps=5,size=300,seed=7``. Raises TaskError."""
    words, values = split_parameters(parameters)
    for key, value in values.items():
        low, high = LIMITS.get(key, (0, -1))
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            words.append(f"{key}={value}")
    if words:
        raise TaskError(
            f"task clean_arithmetic: {words[0][:80]!r} is no parameter; there are steps (1 to {MOST_STEPS}), "
            f"size (1 to {MOST_PROBLEMS:,}) and seed"
        )
    return _task(f"clean_arithmetic:{join_parameters([], values)}", {**DEFAULTS, **values})


def _task(name: str, settings: dict[str, int], sha256: str | None = None, cases: tuple[Case, ...] = ()) -> Task:
    size, seed, steps = settings["size"], settings["seed"], settings.get("steps")

    def problems() -> list[Problem]:
        return [problem(seed, number, steps or 1 + number % MOST_STEPS) for number in range(size)]

    return Task(
        name=name,
        version="1",
        summary=f"Clean arithmetic: {size:,} generated expressions of {steps or '1 to 20'} steps, exact answers.",
        kind="maths",
        licence="Apache-2.0",
        source=Generated(generate=problems, rows=size, sha256=sha256, seed=seed),
        sampling=SamplingParameters(max_tokens=8192),
        cases=cases,
    )


TASK = _task(
    "clean_arithmetic",
    DEFAULTS,
    "6c47888b87f31bec558436ced08a1d1e6f59ac233b0fba9dc17da58812d47a2f",
    (
        Case("21^2 = 441 and 30^2 = 900, so it is \\boxed{1341}.", "correct", f"ca-{SEED}-0"),
        Case("\\boxed{1,341}", "correct", f"ca-{SEED}-0"),
        Case("\\boxed{\\frac{71}{1620}}", "correct", f"ca-{SEED}-1"),
        Case("\\boxed{0.0438}", "wrong", f"ca-{SEED}-1"),
        Case("\\boxed{22968.3125}", "correct", f"ca-{SEED}-4"),
        Case("\\boxed{-367493/16}", "wrong", f"ca-{SEED}-4"),
        Case("1341", "no_answer", f"ca-{SEED}-0"),
    ),
)
