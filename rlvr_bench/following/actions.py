"""What happens when an alarm sounds: a command that reads it, or a webhook that receives it, both as JSON."""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
import urllib.error
import urllib.request

import msgspec

from rlvr_bench.errors import BadArgument
from rlvr_bench.following.alarms import Fired

__all__ = ["act", "check_action"]

_COMMAND_S = 60.0
_WEBHOOK_S = 10.0

logger = logging.getLogger(__name__)


def check_action(action: str) -> None:
    """Raises BadArgument for a command that cannot be split into words."""
    try:
        words = [action] if _is_url(action) else shlex.split(action)
    except ValueError as error:
        raise BadArgument("--on-alarm", action, f"is no command: {error}") from error
    if not words:
        raise BadArgument("--on-alarm", action, "must be a command, or the URL of a webhook")


def act(action: str, fired: Fired) -> None:
    """Run the command with the alarm as JSON on standard input, or post it to the URL. A failure is a line in the log."""
    content = msgspec.json.encode(fired)
    try:
        if _is_url(action):
            headers = {"Content-Type": "application/json"}
            request = urllib.request.Request(action, content, headers)  # noqa: S310  http and https only
            with urllib.request.urlopen(request, timeout=_WEBHOOK_S):  # noqa: S310
                return
        environment = {**os.environ, "RLVR_BENCH_ALARM": fired.message}
        ended = subprocess.run(shlex.split(action), input=content, env=environment, timeout=_COMMAND_S)
        if ended.returncode:
            logger.warning("--on-alarm %s: ended with status %d", action, ended.returncode)
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        logger.warning("--on-alarm %s: %s", action, error)


def _is_url(action: str) -> bool:
    return action.startswith(("http://", "https://"))
