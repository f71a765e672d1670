"""Analyses of a training run: rescoring, series of checkpoints, token categories, interventions."""
