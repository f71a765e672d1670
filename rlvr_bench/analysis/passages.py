"""The input of a rescoring: a run's prompts as its model saw them, and a check that both models share their tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np
import pyarrow as pa

from rlvr_bench.errors import ModelError, RlvrBenchError, RunError
from rlvr_bench.records import Problem
from rlvr_bench.samplers import open_tokenizer
from rlvr_bench.samplers.logprobs import Passage, Scorer
from rlvr_bench.samplers.model_files import cut_at_stop, detokenise, render, template_digest
from rlvr_bench.samplers.tokenizer import Tokenizer
from rlvr_bench.store import Run
from rlvr_bench.store.run import stored_text
from rlvr_bench.store.run_prompts import drawn_template

__all__ = ["Prompts", "check_tokens", "prompts_of", "reference_passages"]


class Prompts(msgspec.Struct, frozen=True):
    """Token ids of each problem's prompt, and a note on what was not checked."""

    ids: Mapping[str, tuple[int, ...]]
    note: str | None = None


def prompts_of(run: Run, scorer: Scorer, own_model: str | None = None) -> Prompts:
    """Prompts of a run, in the tokens that its checkpoint saw.

    They are rendered with the tokenizer of ``own_model`` (folder or id of the checkpoint that drew the run) where it can
    be loaded, else with the scorer's tokenizer, which must then have the chat template the run was drawn with. Raises
    RunError where the prompt template has changed since, ModelError where the two tokenizers read a prompt differently or
    neither has the chat template.
    """
    manifest = run.manifest
    template = drawn_template(run)
    mode: Literal["auto", "none"] = "none" if manifest.chat_template is None else "auto"
    tokenizer, note = _tokenizer_of(own_model), None
    if tokenizer is None or template_digest(tokenizer, mode) != manifest.chat_template:
        tokenizer = scorer.tokenizer
        note = "the run's own tokenizer could not be loaded: only the responses were checked for equal tokens"
        if template_digest(tokenizer, mode) != manifest.chat_template:
            raise ModelError(
                f"{scorer.info.model} does not have the chat template that {run.path} was drawn with, and the run's model "
                f"{manifest.model} cannot be loaded. Restore it, or rescore under a model with that template"
            )
    ids = {}
    for problem in run.problems():
        ids[problem.id] = tuple(render(tokenizer, template.render(problem), mode, manifest.chat_template_args))
        if scorer.tokenizer.decode(list(ids[problem.id])) != tokenizer.decode(list(ids[problem.id])):
            raise _other_tokenizer(run, scorer, f"it reads the prompt of problem {problem.id} differently")
    return Prompts(ids, note)


def check_tokens(run: Run, scorer: Scorer, prompts: Prompts) -> None:
    """Check on one rollout of every problem that the scorer's tokenizer turns the stored tokens into the stored text.

    Raises RunError where the run has no rollouts, ModelError where a text differs.
    """
    table = _first_of_each(run)
    vocabulary, sampling = len(scorer.tokenizer), run.manifest.sampling
    stops = () if sampling is None else sampling.stop
    for problem_id, text, ids in zip(*(table[name].to_pylist() for name in table.column_names), strict=True):
        if ids is None or problem_id not in prompts.ids:
            continue
        if max(ids, default=0) >= vocabulary:
            raise _other_tokenizer(run, scorer, f"token {max(ids)} of problem {problem_id} is beyond its {vocabulary}")
        # The text does not include the end token; a response that was cut has none.
        whole = detokenise(scorer.tokenizer, prompts.ids[problem_id], [ids, ids[:-1]])
        decoded = [cut_at_stop(response, (), stops)[0] for response in whole]
        if text not in map(stored_text, decoded):
            raise _other_tokenizer(run, scorer, f"it reads a response to problem {problem_id} differently")


def reference_passages(
    problems: Sequence[Problem], gold: str | None, scorer: Scorer, prompts: Prompts
) -> dict[str, Passage]:
    r"""Reference solutions after their prompts, by problem id; empty where the task has none.

    A problem's solution is ``data["solution"]``, else its answer where that is the whole response according to ``gold``
    (the task's template of a correct response): "{answer}", or a block of code. An answer without reasoning, such as
    "\\boxed{5}", is not a solution. The solution is tokenised separately, and the end token is added.
    """
    whole = gold is not None and "boxed" not in gold
    end = scorer.tokenizer.eos_token_id
    passages = {}
    for problem in problems:
        text = problem.data.get("solution") or (gold.replace("{answer}", problem.answer) if whole and gold else "")
        if isinstance(text, str) and text:
            ids = [*scorer.tokenizer(text, add_special_tokens=False)["input_ids"], *([] if end is None else [end])]
            passages[problem.id] = Passage(prompts.ids[problem.id], np.array(ids, dtype=np.int32))
    return passages


def _tokenizer_of(model: str | None) -> Tokenizer | None:
    if model is None:
        return None
    try:
        return open_tokenizer(model)
    except RlvrBenchError:
        return None


def _first_of_each(run: Run) -> pa.Table:
    """The first stored rollout of each problem: problem_id, text, token_ids."""
    parts, seen = [], pa.array([], pa.string())
    for table in run.rollouts.read(["problem_id", "text", "token_ids"]):
        table = table.set_column(0, "problem_id", table["problem_id"].cast(pa.string()))
        names = np.array(table["problem_id"].to_pylist())
        first = np.unique(names, return_index=True)[1]
        fresh = first[~np.isin(names[first], seen.to_pylist())]
        parts.append(table.take(np.sort(fresh)))
        seen = pa.concat_arrays([seen, pa.array(names[fresh])])
    if not parts:
        raise RunError(f"{run.path}: no rollouts in it yet")
    return pa.concat_tables(parts)


def _other_tokenizer(run: Run, scorer: Scorer, why: str) -> ModelError:
    return ModelError(
        f"{scorer.info.model} has another tokenizer than the model that drew {run.path}: {why}. "
        "Tokens can be rescored only under a checkpoint that shares them"
    )
