"""Tiny real checkpoints trained on the double-countdown puzzle, and the recipes that train them."""
