"""Labels: whether a rollout is truly right, by a person or a judge, for a random sample of a run's rollouts."""
