"""Log messages for a person: whole lines on standard error, above a progress bar where one is running."""

from __future__ import annotations

import logging

from rich.console import Console

__all__ = ["STDERR", "MessageHandler"]

STDERR = Console(stderr=True, highlight=False)


class MessageHandler(logging.Handler):
    """Prints each message through the console that the progress bars use."""

    def emit(self, record: logging.LogRecord) -> None:
        STDERR.print(self.format(record), markup=False, soft_wrap=True)
