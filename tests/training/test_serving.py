"""Rewards over HTTP: every form, and clients that send rubbish, too much, too slowly, or all at once."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from rlvr_bench.cli import main
from rlvr_bench.errors import BadArgument, StorageError
from rlvr_bench.training.rewards import Reward
from rlvr_bench.training.serving import RewardServer, ServeLimits
from tests.verifiers.test_isolation import misbehave

ROOT = Path(__file__).parents[2]
LIMITS = ServeLimits(request_bytes=1 << 20, items=500, clients=16)


@pytest.fixture(scope="module")
def server() -> Iterator[RewardServer]:
    with Reward("integer", workers=2) as reward:
        yield from running(reward)


def running(reward: Reward, limits: ServeLimits = LIMITS) -> Iterator[RewardServer]:
    with RewardServer(reward, port=0, limits=limits) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join(30)
        assert not thread.is_alive()


def post(server: RewardServer, path: str, content: object) -> httpx.Response:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return httpx.post(server.address + path, content=body, timeout=60)


def is_well(server: RewardServer) -> bool:
    answer = post(server, "/verify", {"responses": ["\\boxed{7}"], "answers": ["7"]})
    return bool(answer.json()["rewards"] == [1.0])


def test_each_program_gets_its_form(server: RewardServer) -> None:
    openrlhf = {"query": ["2+5? \\boxed{7}", "2+5? \\boxed{8}"], "prompts": ["2+5?", "2+5?"], "labels": ["7", 7]}
    assert post(server, "/get_reward", openrlhf).json() == {
        "rewards": [1.0, 0.0], "scores": [1.0, 0.0], "extra_logs": {},
    }  # fmt: skip
    assert post(server, "/get_reward", {"query": ["\\boxed{7}"], "labels": ["7"]}).json()["rewards"] == [1.0]
    slime = {"prompt": [{"role": "user", "content": "2+5?"}], "response": "\\boxed{7}", "label": "7"}
    assert post(server, "/reward", slime).json() == 1.0
    messages = [{"role": "assistant", "content": "\\boxed{8}"}]
    plain = post(server, "/verify", {"responses": [messages, "\\boxed{7}", "no"], "answers": ["7", None, "7"]}).json()
    assert plain["rewards"] == [0.0, 0.0, 0.0]
    assert [verdict["status"] for verdict in plain["verdicts"]] == ["wrong", "error", "no_answer"]
    health = httpx.get(server.address + "/health").json()
    assert health["status"] == "ok"
    assert health["verdicts"]["no_answer"] >= 1


@pytest.mark.parametrize(
    ("path", "content", "status", "message"),
    [
        ("/verify", b"{", 400, "not a request of /verify"),
        ("/verify", b"", 400, "not a request"),
        ("/verify", b"[" * 100_000, 400, "not a request"),
        ("/verify", b"\xff\xfe{}", 400, "not a request"),
        ("/verify", {"responses": ["a"]}, 400, "answers"),
        ("/verify", {"responses": "a", "answers": "b"}, 400, "array"),
        ("/verify", {"responses": ["a"], "answers": ["b", "c"]}, 400, "1 responses, but 2 gold answers"),
        ("/get_reward", {"query": ["a"], "prompts": [], "labels": ["b"]}, 200, None),
        ("/get_reward", {"query": ["a"], "prompts": ["a", "b"], "labels": ["b"]}, 400, "1 queries, but 2 prompts"),
        ("/reward", {"response": None, "label": "7"}, 400, "str"),
        ("/verify", {"responses": ["a"] * 501, "answers": ["b"] * 501}, 413, "at most 500"),
        ("/verify", b" " * (1 << 21), 413, "at most 1,048,576"),
        ("/nothing%0a" + "a" * 1000, {}, 404, "POST to /get_reward"),
    ],
)
def test_a_bad_request_gets_one_line_and_harms_nobody(
    server: RewardServer, path: str, content: object, status: int, message: str | None
) -> None:
    try:
        answer = post(server, path, content)
    except (httpx.WriteError, httpx.ReadError):  # the server does not read a body that is too large
        assert status == 413
    else:
        assert answer.status_code == status, answer.text
        assert message is None or (message in answer.json()["error"] and "\n" not in answer.json()["error"])
    assert is_well(server)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\x16\x03\x01 no HTTP at all\r\n\r\n",
        b"POST /verify HTTP/1.1\r\n\r\n",
        b"POST /verify HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /verify HTTP/1.1\r\nContent-Length: 10\r\n\r\n{}",
        b"POST /verify HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"DELETE /verify HTTP/1.1\r\n\r\n",
    ],
)
def test_a_client_that_hangs_up_harms_nobody(server: RewardServer, sent: bytes) -> None:
    with socket.create_connection(server.server_address[:2]) as connection:  # type: ignore[arg-type]
        connection.sendall(sent)
    assert is_well(server)


def test_slow_clients_are_dropped(server: RewardServer) -> None:
    for hasty in running(server.reward, ServeLimits(request_s=1.0, clients=16)):
        slow = [socket.create_connection(hasty.server_address[:2]) for _ in range(16)]  # type: ignore[arg-type]
        slow[0].sendall(b"POST /verify HTTP/1.1\r\nContent-Length: 100\r\n\r\n{")
        slow[1].sendall(b"POST /verify HTTP/1.1\r\nX: ")
        for connection in slow:
            connection.settimeout(60)
            while connection.recv(1000):
                pass
            connection.close()
    assert is_well(server)


def test_more_clients_than_allowed_get_503() -> None:
    with Reward("integer") as reward:
        for server in running(reward, ServeLimits(clients=1, request_s=30)):
            with socket.create_connection(server.server_address[:2]) as first:  # type: ignore[arg-type]
                first.sendall(b"POST /verify HTTP/1.1\r\n")
                with socket.create_connection(server.server_address[:2]) as second:  # type: ignore[arg-type]
                    second.settimeout(60)
                    assert second.recv(100).startswith(b"HTTP/1.0 503 ")


def test_clients_at_once_get_their_own_rewards(server: RewardServer) -> None:
    got: dict[int, list[float]] = {}

    def work(number: int) -> None:
        answers = [str(i + (i + number) % 2) for i in range(50)]
        content = {"responses": [f"\\boxed{{{i}}}" for i in range(50)], "answers": answers}
        got[number] = post(server, "/verify", content).json()["rewards"]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {number: [float((i + number) % 2 == 0) for i in range(50)] for number in range(8)}


def test_a_hang_costs_its_item_only() -> None:
    with Reward(misbehave(), timeout_s=0.2, error_value=-1) as reward:
        for server in running(reward):
            content = {"responses": ["7", "sleep", "8"], "answers": ["7"] * 3}
            assert post(server, "/verify", content).json()["rewards"] == [1.0, -1.0, 0.0]


def test_an_address_that_cannot_be_used_is_one_line(server: RewardServer) -> None:
    with pytest.raises(StorageError, match="cannot listen on 127.0.0.1:.*--port"):
        RewardServer(server.reward, port=int(server.server_address[1]))
    with pytest.raises(StorageError, match="cannot listen on no.such.host.invalid"):
        RewardServer(server.reward, "no.such.host.invalid", 0)
    with pytest.raises(BadArgument, match="port is 70000"):
        RewardServer(server.reward, port=70_000)


def test_the_command_serves_until_it_is_stopped() -> None:
    command = [sys.executable, "-m", "rlvr_bench", "serve-verifier", "--task", "gsm8k", "--port", "0"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        address = process.stdout.readline().removeprefix("listening on ").strip()
        content: dict[str, Any] = {"response": "The answer is 18.", "label": "18"}
        assert httpx.post(f"{address}/reward", json=content, timeout=60).json() == 1.0
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors.strip()) == (0, "rlvr-bench: stopped.")


@pytest.mark.parametrize(
    ("options", "message"), [(("--task", "gsm9k"), "unknown task"), (("--error-value", "nan"), "finite number")]
)
def test_bad_options_are_one_line(capsys: pytest.CaptureFixture[str], options: tuple[str, str], message: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["serve-verifier", *options])
    assert stopped.value.code == 2
    errors = capsys.readouterr().err.strip()
    assert message in errors
    assert "\n" not in errors
