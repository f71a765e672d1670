"""Labels: whether a rollout is truly right, by a person or a judge, for a random sample of a run's rollouts."""

from __future__ import annotations

from rlvr_bench.labelling.cells import CELLS, cell_of_rollouts
from rlvr_bench.labelling.labels import Label, Labels, add_labels, read_label_file, read_labels
from rlvr_bench.labelling.sampling import AuditSample, SampledRollout, draw_sample, read_sample

__all__ = [
    "CELLS",
    "AuditSample",
    "Label",
    "Labels",
    "SampledRollout",
    "add_labels",
    "cell_of_rollouts",
    "draw_sample",
    "read_label_file",
    "read_labels",
    "read_sample",
]
