"""The command line: argument parsing and printing only."""

from rlvr_bench.cli.main import main

__all__ = ["main"]
