"""Makes a rejection-sampling fine-tuning set from a graded run: JSONL that TRL's SFTTrainer reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from rlvr_bench.errors import BadArgument, RunError
from rlvr_bench.prompts import PROMPTS, PromptTemplate, open_prompt
from rlvr_bench.records import Outcomes, Problem
from rlvr_bench.storage import as_path
from rlvr_bench.store import Run, open_run
from rlvr_bench.store.outcomes import read_outcomes
from rlvr_bench.store.paths import make_folder, write_atomically
from rlvr_bench.store.prompt_files import StoredPrompt, read_prompts
from rlvr_bench.store.run_prompts import drawn_template
from rlvr_bench.training.selection import Pool, Selection, Strategy, choose

__all__ = ["SelectionSummary", "select"]


class SelectionSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What ``select`` wrote: ``rollouts`` lines from ``problems`` problems; ``wrong`` of the lines are wrong.

    ``unsolved`` problems of the run have no correct rollout to choose. ``duplicates`` correct rollouts were left out
    because an earlier one of the same problem has the same text, ``truncated`` because they reached the token limit.
    """

    file: str
    run: str
    format: str
    strategy: str
    per_problem: int
    seed: int
    rollouts: int
    wrong: int
    wrong_share: float
    problems: int
    unsolved: int
    duplicates: int
    truncated: int


def select(
    run: str | Path,
    strategy: Strategy = "correct",
    *,
    out: str | Path,
    per_problem: int = 4,
    wrong_share: float | None = None,
    seed: int = 0,
    prompt: str | None = None,
) -> SelectionSummary:
    """Write a rejection-sampling fine-tuning set from a graded run's rollouts to the JSONL file ``out``.

    One line per chosen rollout: ``prompt`` and ``completion`` as message lists where the run was drawn through a chat
    template, as plain text otherwise (TRL's two prompt-completion formats), then ``problem``, ``rollout`` and
    ``correct``. ``rlvr_bench.training.selection.choose`` chooses the rollouts. Correct and wrong are the verifier's
    statuses. A rollout cut at the token limit is never chosen: the trained model would learn to stop there. A rollout
    with no answer, or on which the verifier failed, is not wrong and not chosen. Lines are in the order stored.

    The prompts of an imported run are those of its files, where they hold them: a text as plain text, messages as message
    lists. ``prompt`` names a template that renders the prompts of an import in place of them.

    Raises RunError where the folder is no run, is not graded completely, has no correct rollout, or lacks the prompts or
    the statistics for ``entropy`` or ``rbf``; UnknownName for a ``prompt`` that does not exist; BadArgument where ``out``
    exists or an option is not allowed; StorageError.
    """
    opened, file = open_run(run), as_path(out)
    if file.exists():
        raise BadArgument("--out", str(out), "exists already: choose another file, or delete it first")
    prompts = _prompts(opened, prompt)
    outcomes = read_outcomes(opened)
    correct = outcomes.is_correct
    usable = correct & ~outcomes.truncated
    pool = Pool(
        problem=outcomes.problem,
        text=outcomes.text,
        correct=usable,
        wrong=outcomes.has_status("wrong") & ~outcomes.truncated,
        entropy=outcomes.entropy_mean,
        branching=outcomes.branching_mean,
    )
    _check_usable(opened, pool, strategy)
    chosen = choose(pool, strategy, per_problem, wrong_share, seed)
    make_folder(file.parent)
    write_atomically(file, _lines(opened, outcomes, chosen, prompts.pair))
    wrong = int(chosen.wrong.sum())
    return SelectionSummary(
        file=str(file),
        run=str(opened.path),
        format="conversational" if prompts.conversational else "text",
        strategy=strategy,
        per_problem=per_problem,
        seed=seed,
        rollouts=len(chosen.rows),
        wrong=wrong,
        wrong_share=wrong / len(chosen.rows),
        problems=len(np.unique(outcomes.problem[chosen.rows])),
        unsolved=len(outcomes.problem_ids) - len(np.unique(outcomes.problem[usable])),
        duplicates=chosen.duplicates,
        truncated=int((correct & outcomes.truncated).sum()),
    )


Pair = dict[str, object]  # prompt and completion


class _Prompts(NamedTuple):
    """How prompts are written: ``pair`` makes prompt and completion of a problem and a text."""

    conversational: bool
    pair: Callable[[Problem, str], Pair]


def _prompts(run: Run, name: str | None) -> _Prompts:
    """The prompts that the run was drawn with: rendered again from their template, or those of an import's files.

    Raises UnknownName, RunError.
    """
    if run.manifest.imported is None:
        if name is not None:
            raise RunError(f"{run.path}: drawn with prompt {run.manifest.prompt!r}; --prompt is for imported runs")
        template = drawn_template(run)
        conversational = run.manifest.chat_template is not None and bool(template.user)
        return _Prompts(
            conversational,
            partial(_pair, template, conversational=conversational, arguments=run.manifest.chat_template_args),
        )
    if name is not None:
        template = open_prompt(name)
        return _Prompts(bool(template.user), partial(_pair, template, conversational=bool(template.user)))
    stored = read_prompts(run)
    if not stored:
        raise RunError(
            f"{run.path}: imported without prompts. Import it with a mapping that has prompt=, or name the template that "
            f"its prompts were made with: --prompt {next(iter(PROMPTS))}"
        )
    conversational = all(not isinstance(prompt, str) for prompt in stored.values())
    return _Prompts(conversational, partial(_stored_pair, run, stored, conversational=conversational))


def _stored_pair(
    run: Run, stored: Mapping[str, StoredPrompt], problem: Problem, text: str, *, conversational: bool
) -> Pair:
    prompt = stored.get(problem.id)
    if prompt is None or isinstance(prompt, str) == conversational:
        raise RunError(f"{run.path}: no prompt of the same kind as the others is stored for problem {problem.id!r}")
    return {"prompt": prompt, "completion": [{"role": "assistant", "content": text}] if conversational else text}


def _check_usable(run: Run, pool: Pool, strategy: Strategy) -> None:
    correct = np.asarray(pool.correct)
    if not correct.any():
        raise RunError(f"{run.path}: no correct rollout that ended by itself, so there is nothing to train on")
    statistic = {"entropy": pool.entropy, "rbf": pool.branching}.get(strategy)
    if statistic is not None and np.isnan(np.asarray(statistic)[correct]).all():
        raise RunError(
            f"{run.path}: has no exact token statistics (token_stats is {run.manifest.token_stats!r}), which strategy "
            f"{strategy!r} ranks by. Draw it with --token-stats summary on vllm or transformers, or choose another strategy."
        )


def _lines(run: Run, outcomes: Outcomes, chosen: Selection, pair: Callable[[Problem, str], Pair]) -> Iterator[bytes]:
    """Yields a JSON line per chosen rollout; reads texts a shard at a time."""
    is_wrong: dict[tuple[str, int], bool] = {
        (outcomes.problem_ids[problem], int(index)): bool(wrong)
        for problem, index, wrong in zip(
            outcomes.problem[chosen.rows], outcomes.index[chosen.rows], chosen.wrong, strict=True
        )
    }
    problems = {problem.id: problem for problem in run.problems()}
    for table in run.rollouts.read(["problem_id", "index", "text"]):
        names = table["problem_id"].to_pylist()
        for row, key in enumerate(zip(names, table["index"].to_pylist(), strict=True)):
            wrong = is_wrong.pop(key, None)
            if wrong is not None:
                text = table["text"][row].as_py()
                line = {**pair(problems[key[0]], text), "problem": key[0], "rollout": key[1], "correct": not wrong}
                yield msgspec.json.encode(line) + b"\n"


def _pair(
    template: PromptTemplate,
    problem: Problem,
    text: str,
    *,
    conversational: bool,
    arguments: Mapping[str, object] | None = None,
) -> Pair:
    """Prompt and completion; with ``arguments``, also under the name by which TRL passes them to the chat template."""
    prompt = template.render(problem)
    if not conversational:
        return {"prompt": prompt.text, "completion": text}
    pair: Pair = {"prompt": prompt.messages, "completion": [{"role": "assistant", "content": text}]}
    return pair | ({"chat_template_kwargs": dict(arguments)} if arguments else {})
