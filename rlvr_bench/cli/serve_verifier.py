"""The command ``serve-verifier``: rewards over HTTP for training programs."""

from __future__ import annotations

import ipaddress
import logging
import math
import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from rlvr_bench.cli.options import Timeout
from rlvr_bench.cli.terminal import say
from rlvr_bench.errors import BadArgument
from rlvr_bench.options import GradeOptions

__all__ = ["register"]

Task = Annotated[str | None, typer.Option("--task", "-t", help="Task that gives verifier and extraction.")]
VerifierName = Annotated[str, typer.Option("--verifier", help="Name of a verifier, where no task is named.")]
Extract = Annotated[
    str | None,
    typer.Option(help="How the answer is taken from a response, such as auto. Default: as the verifier does."),
]
Host = Annotated[str, typer.Option(help="Address to listen on. Everybody who reaches it may use the service.")]
Port = Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")]
ErrorValue = Annotated[float, typer.Option(help="The reward where the verifier fails.")]
Workers = Annotated[int, typer.Option(help="Verifier processes.")]
LargestMib = Annotated[int, typer.Option("--max-request-mib", min=1, help="Largest request, in MiB.")]
Clients = Annotated[int, typer.Option("--max-clients", min=1, help="Clients served at a time; others get status 503.")]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("serve-verifier")(serve_verifier)


def serve_verifier(
    task: Task = None,
    verifier: VerifierName = "math",
    extract: Extract = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    workers: Workers = 1,
    timeout: Timeout = GradeOptions.timeout_s,
    error_value: ErrorValue = 0.0,
    max_request_mib: LargestMib = 64,
    max_clients: Clients = 64,
) -> None:
    """Serve rewards over HTTP to training programs, until it is stopped.

    POST /get_reward is OpenRLHF's remote reward model, /reward slime's, /verify takes responses and answers.
    """
    from rlvr_bench.training import rewards, serving

    if not math.isfinite(error_value):
        raise BadArgument("--error-value", error_value, "must be a finite number: JSON has no other")
    reward = rewards.Reward(
        verifier, task=task, extract=extract, workers=workers, timeout_s=timeout, error_value=error_value
    )
    limits = serving.ServeLimits(request_bytes=max_request_mib << 20, clients=max_clients)
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, _stop)
    if not _is_loopback(host):
        logging.getLogger(__name__).warning("everybody who reaches %s may use this service", host)
    try:
        serving.serve_verifier(reward, host, port, limits=limits, started=_show_address)
    except KeyboardInterrupt:
        say("rlvr-bench: stopped.")


def _show_address(address: str) -> None:
    sys.stdout.write(f"listening on {address}\n")
    sys.stdout.flush()


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
