"""Output other than tables: JSON, and log messages on standard error, above a progress bar if there is one."""

from __future__ import annotations

import logging

from rlvr_bench.cli.terminal import Terminal, write_json
from rlvr_bench.json_format import format_json

__all__ = ["STDERR", "MessageHandler", "print_json"]

STDERR = Terminal(stderr=True)


class MessageHandler(logging.Handler):
    """Prints each message through the console that the progress bars use."""

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        ours = record.name.partition(".")[0] == "rlvr_bench"
        mark = "warning: " if ours and record.levelno >= logging.WARNING and not text.startswith("warning:") else ""
        STDERR.print(mark + text, markup=False, soft_wrap=True)


def print_json(value: object) -> None:
    """Print a result of the library as JSON on standard output; paths become text."""
    write_json(format_json(value, enc_hook=str))
