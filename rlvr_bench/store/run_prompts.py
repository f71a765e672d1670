"""The prompt template that a run was drawn with."""

from __future__ import annotations

from rlvr_bench.errors import RunError
from rlvr_bench.prompts import PROMPTS, PromptTemplate
from rlvr_bench.store.run import Run

__all__ = ["drawn_template"]


def drawn_template(run: Run) -> PromptTemplate:
    """The template in the run's manifest; for a run of an older version, the one of that name.

    Anybody may have written the manifest: the template must have the recorded hash, and no file is read. Raises RunError.
    """
    manifest = run.manifest
    named = PROMPTS.get(manifest.prompt)
    for template in (manifest.template, named):
        if template is not None and template.digest == manifest.prompt_sha256:
            return template
    lacking = "does not have it" if named is None else "has it in another wording"
    raise RunError(
        f"{run.path}: its prompt template {manifest.prompt!r} has changed since it was drawn, and this version of rlvr-bench "
        f"{lacking}: its prompts cannot be rebuilt. Draw the run again"
    )
