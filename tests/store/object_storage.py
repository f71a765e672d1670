"""An S3 server in this process, and addresses in it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rlvr_bench.storage import as_path
from tests.conftest import require

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class Refusal:
    """Refuses requests, counted from 0, from number ``first`` to before ``last``."""

    def __init__(self, first: int, last: float = float("inf")) -> None:
        self.seen = 0
        self._first, self._last = first, last

    def __enter__(self) -> Refusal:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication

        refused = b"<Error><Code>AccessDenied</Code><Message>not for you</Message></Error>"
        answer = DomainDispatcherApplication.__call__

        def refuse(app: Any, environ: Any, start_response: Any) -> Any:
            number, self.seen = self.seen, self.seen + 1
            if not self._first <= number < self._last:
                return answer(app, environ, start_response)
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            body = b"" if environ["REQUEST_METHOD"] == "HEAD" else refused
            start_response("403 Forbidden", [("Content-Length", str(len(body)))])
            return [body]

        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(DomainDispatcherApplication, "__call__", refuse)
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.undo()


@contextmanager
def s3_server() -> Iterator[str]:
    """The address of a bucket that is served from here, for this process and those it starts."""
    require("moto", "test")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        environment = {**ENVIRONMENT, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            import s3fs

            bucket = f"bucket-{uuid.uuid4().hex}"  # buckets outlive their server
            s3fs.S3FileSystem.clear_instance_cache()
            s3fs.S3FileSystem().mkdir(bucket)
            yield f"s3://{bucket}"
            s3fs.S3FileSystem.clear_instance_cache()
    finally:
        server.stop()


@pytest.fixture(params=["s3", "local"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """An empty storage that fsspec accesses: an S3 bucket, and a folder of this machine."""
    require("upath", "s3")
    if request.param == "local":
        yield as_path(f"local://{tmp_path}/stored")
        return
    with s3_server() as bucket:
        yield as_path(f"{bucket}/runs")
