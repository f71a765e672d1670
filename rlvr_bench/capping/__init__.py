"""What a run would have given with a smaller budget per response: its responses are cut, graded and scored again."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import msgspec

from rlvr_bench import pipeline
from rlvr_bench.capping.capped_runs import cut_run, known_verdicts
from rlvr_bench.capping.cutting import CallCutter, Cutter, TokenCutter
from rlvr_bench.capping.splits import best_splits_of
from rlvr_bench.capping.tokenizers import RunTokens, run_tokens
from rlvr_bench.comparison.cap_scores import SCHEMA, CapScore, CapScores, cap_scores_file
from rlvr_bench.errors import BadArgument, RunError
from rlvr_bench.grading import grade_run
from rlvr_bench.importers.regrading import check_gradable
from rlvr_bench.manifest import Manifest
from rlvr_bench.options import CapOptions, GradeOptions
from rlvr_bench.pipeline.options import Progress, Silent
from rlvr_bench.pipeline.progress import with_progress
from rlvr_bench.pipeline.run_tasks import grading_task
from rlvr_bench.pipeline.several import Done, over_runs
from rlvr_bench.pipeline.tool_runs import reading_statements
from rlvr_bench.records import Cap
from rlvr_bench.scorecard import Grading, Scorecard
from rlvr_bench.store import open_run
from rlvr_bench.store.locks import lock_folder
from rlvr_bench.store.record_files import write_record
from rlvr_bench.store.run import Run
from rlvr_bench.store.verdicts import Verdicts, current_grading
from rlvr_bench.task import task_verifier
from rlvr_bench.verifiers import Verifier

__all__ = ["CapOptions", "score_caps", "score_caps_all"]


@with_progress
def score_caps(
    run: str | Path,
    options: CapOptions,
    ks: Sequence[int] | None = None,
    grading: GradeOptions | None = None,
    progress: Progress | None = None,
) -> CapScores:
    """Score a graded run at smaller budgets per response than it was drawn with, without drawing again.

    A response above a cap is cut to it, its answer is extracted anew and graded. The cut run, with a whole scorecard, is
    stored in ``caps/tokens-<cap>`` (or ``calls-<cap>``) in the run folder, the summary in ``caps/scores.json``. Cut
    responses and verdicts are kept: a second call does only what is new. The run itself is scored too.

    Raises BadArgument for a cap that is not below the drawn budget; RunError where the run cannot be cut: imported,
    drawn by a server, not graded by the present verifier, without a tokenizer; and the errors of ``grade`` and ``score``.
    """
    opened, grading, progress = open_run(run), grading or GradeOptions(), progress or Silent()
    _check_run(opened)
    caps = _caps(opened, options)
    verifier = _verifier(opened, options, grading)
    current = _check_graded(opened, verifier)
    tokens = None if options.call_caps else run_tokens(opened, options.tokenizer)
    made = []
    for cap in caps:
        capped = _cut(opened, cap, current, tokens)
        _grade(opened, capped, verifier, grading, progress)
        made.append((capped, pipeline.score(capped.path, ks, progress)))
    made.append((opened, pipeline.score(opened.path, ks, progress)))
    return _summarised(opened, current, made)


def score_caps_all(
    runs: Sequence[Path],
    options: CapOptions,
    ks: Sequence[int] | None = None,
    grading: GradeOptions | None = None,
    *,
    jobs: int = 1,
    progress: Progress | None = None,
) -> list[Done[CapScores]]:
    """``score_caps`` for each run once, in ``jobs`` processes.

    Raises BadArgument without runs; an RlvrBenchError of a run becomes its result.
    """
    return over_runs("score", functools.partial(_one, options, ks, grading), runs, jobs, progress or Silent())


def _one(options: CapOptions, ks: Sequence[int] | None, grading: GradeOptions | None, run: Path) -> CapScores:
    return score_caps(run, options, ks, grading, Silent())


def _check_run(run: Run) -> None:
    """Raises RunError where no response of the run can be cut."""
    manifest = run.manifest
    if manifest.imported is not None:
        raise RunError(
            f"{run.path}: imported from {manifest.imported}: of its responses neither max_tokens nor the tokens are known, "
            "so they cannot be cut"
        )
    if manifest.weights.startswith("endpoint:"):
        raise RunError(
            f"{run.path}: weights are {manifest.weights[:100]!r}, a server's: its tokens are unknown and cannot be cut"
        )
    if manifest.cap is not None:
        raise RunError(f"{run.path}: it is cut already (cap). Name the run that was drawn: {run.path.parent.parent}")


def _caps(run: Run, options: CapOptions) -> list[Cap]:
    """The caps asked for, the smallest first. Raises BadArgument, RunError."""
    manifest = run.manifest
    if options.call_caps:
        if manifest.tools is None:
            raise BadArgument("--call-cap", options.call_caps[0], f"{run.path} was drawn without tools")
        return _below("--call-cap", "calls", options.call_caps, manifest.tools.calls, "tools.calls", run)
    if manifest.tools is not None:
        raise RunError(
            f"{run.path}: drawn with tools, whose output counts towards max_tokens and is not stored as tokens: cut it by "
            "calls (--call-cap)"
        )
    if manifest.sampling is None:
        raise RunError(f"{run.path}: its sampling parameters are unknown, max_tokens among them: it cannot be cut")
    return _below("--token-cap", "tokens", options.token_caps, manifest.sampling.max_tokens, "max_tokens", run)


def _below(option: str, unit: str, caps: Sequence[int], drawn: int, field: str, run: Run) -> list[Cap]:
    for cap in caps:
        if cap >= drawn:
            raise BadArgument(option, cap, f"must be below {drawn:,}, the {field} that {run.path} was drawn with")
    return [Cap(**{unit: cap, "drawn": drawn}) for cap in sorted(set(caps))]  # type: ignore[arg-type]


def _verifier(run: Run, options: CapOptions, grading: GradeOptions) -> Verifier:
    loaded = grading_task(run, options.task, options.data_dir, sandboxed=not grading.allow_unsafe_code)
    check_gradable(run, loaded)
    return reading_statements(pipeline.permitted(task_verifier(loaded.task, loaded.file), grading), run)


def _check_graded(run: Run, verifier: Verifier) -> Grading:
    """The current grading, which must be by this verifier: a cap beside other verdicts would show their difference."""
    current = current_grading(run)
    wanted = Verdicts(run, verifier.name, verifier.version, verifier.options).folder
    if current is None or current.folder != wanted:
        how = "is not graded yet" if current is None else f"was graded by {current.judge}, not by the present verifier"
        raise RunError(f"{run.path}: {how}. Run `rlvr-bench grade {run.path}` first.")
    return current


def _cut(run: Run, cap: Cap, current: Grading, tokens: RunTokens | None) -> Run:
    """The run with its responses cut to this cap."""
    manifest, cutter = _capped(run, cap, tokens)
    over = sum(int(cutter.is_over(table).sum()) for table in run.rollouts.read(["n_tokens", "tool_calls"]))
    keeps = not over or (cap.tokens is not None and manifest.token_stats == "full")
    manifest = msgspec.structs.replace(
        manifest,
        cap=msgspec.structs.replace(cap, cut=over),
        token_stats=manifest.token_stats if keeps else "none",
    )
    name = f"calls-{cap.calls}" if cap.tokens is None else f"tokens-{cap.tokens}"
    return cut_run(run, name, manifest, cutter, current, keeps_statistics=keeps)


def _capped(run: Run, cap: Cap, tokens: RunTokens | None) -> tuple[Manifest, Cutter]:
    """The manifest with the smaller budget, and what cuts the run's responses to it."""
    manifest = run.manifest
    if cap.calls is not None:
        assert manifest.tools is not None
        tools = msgspec.structs.replace(manifest.tools, calls=cap.calls)
        return msgspec.structs.replace(manifest, tools=tools), CallCutter(cap.calls, str(run.path))
    assert manifest.sampling is not None
    assert cap.tokens is not None
    assert tokens is not None
    sampling = msgspec.structs.replace(manifest.sampling, max_tokens=cap.tokens)
    cutter = TokenCutter(cap.tokens, *tokens, sampling, str(run.path))
    return msgspec.structs.replace(manifest, sampling=sampling), cutter


def _grade(run: Run, capped: Run, verifier: Verifier, options: GradeOptions, progress: Progress) -> None:
    """Grade the responses that were cut. Answers that were decided in the run, or at another cap, are not decided again."""
    with lock_folder(capped.path):
        progress.start("verify", sum(drawn.count() for drawn in capped.drawn().values()), 0)
        grade_run(
            capped,
            verifier,
            workers=options.workers,
            timeout_s=options.timeout_s,
            progress=lambda n: progress.advance(n),
            known=known_verdicts(run, verifier),
        )


def _summarised(run: Run, current: Grading, made: Sequence[tuple[Run, Scorecard]]) -> CapScores:
    """The summary of all caps, written to the run folder. The last of ``made`` is the run itself."""
    by_calls = made[0][0].manifest.tools is not None
    splits, notes = ((), ()) if by_calls else best_splits_of([capped for capped, _ in made])
    scores = CapScores(
        schema=SCHEMA,
        task=run.manifest.task,
        model=run.manifest.model,
        unit="calls" if by_calls else "tokens",
        drawn=made[0][0].manifest.cap.drawn if made[0][0].manifest.cap else 0,
        n=run.manifest.n,
        grading=current.folder,
        caps=tuple(_cap_score(run, capped, card, by_calls=by_calls) for capped, card in made),
        splits=splits,
        notes=notes,
    )
    write_record(cap_scores_file(run.path), scores)
    return scores


def _cap_score(run: Run, capped: Run, card: Scorecard, *, by_calls: bool) -> CapScore:
    return CapScore(
        cap=capped.manifest.cap,
        scorecard=str(capped.path.relative_to(run.path) / "scorecard.json"),
        cost=card.quality.get("tool_calls_per_response" if by_calls else "tokens_per_response"),
        truncation_rate=card.quality.get("truncation_rate"),
        pass_at_k=tuple(estimate for estimate in card.estimates if estimate.name == "pass@k"),
    )
