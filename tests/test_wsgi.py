"""The WSGI middleware under the standard library's validator: one revision all through a request, its streamed body too."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest
from pydantic import BaseModel

from livecfg import LiveConfig, UnsafeNoVerification
from livecfg.contrib.wsgi import LivecfgMiddleware

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from wsgiref.types import StartResponse, WSGIEnvironment

PLAIN = [("Content-Type", "text/plain")]


class Config(BaseModel, frozen=True):
    number: int = 0


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "livecfg.yaml").write_text("version: 1\nlayers: [base.yaml]\n")
    (tmp_path / "base.yaml").write_text("number: 1\n")
    return tmp_path


@pytest.fixture
def live(tree: Path) -> Iterator[LiveConfig[Config]]:
    made = LiveConfig(Config, source=UnsafeNoVerification(tree), service="checkout", env="dev")
    yield made
    made.stop()


def switch(live: LiveConfig[Config], tree: Path, number: int) -> None:
    """Change the number and wait until it is in use; as another request's context sees it."""
    from contextvars import Context

    from tests.e2e.support import eventually

    (tree / "base.yaml").write_text(f"number: {number}\n")
    eventually(lambda: Context().run(lambda: live.current.config.number) == number, 10)


def get(app: Any) -> tuple[list[tuple[str, str]], Any]:
    environ: dict[str, Any] = {"wsgi.file_wrapper": FileWrapper, "QUERY_STRING": ""}
    setup_testing_defaults(environ)
    sent: list[tuple[str, str]] = []

    def start_response(_status: str, headers: list[tuple[str, str]], _error: Any = None) -> Any:
        sent.extend(headers)
        return lambda _data: None

    return sent, app(environ, start_response)


def test_a_streamed_body_keeps_its_revision_over_a_swap_and_the_next_request_has_the_new_one(
    live: LiveConfig[Config], tree: Path
) -> None:
    closed: list[int] = []

    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", PLAIN)
        try:
            for _ in range(3):
                yield f"{live.current.config.number} ".encode()
        finally:
            closed.append(live.current.config.number)

    wrapped = validator(LivecfgMiddleware(app, live))
    first = live.current.revision.commit
    headers, body = get(wrapped)
    pieces = iter(body)
    assert next(pieces) == b"1 "
    switch(live, tree, 2)
    assert b"".join(pieces) == b"1 1 "
    body.close()
    assert (closed, dict(headers)["X-Config-Revision"]) == ([1], first)

    headers, body = get(wrapped)
    assert b"".join(body) == b"2 2 2 "
    body.close()
    assert dict(headers)["X-Config-Revision"] == live.current.revision.commit != first


def test_a_body_that_is_there_already_or_a_file_is_handed_on_as_it_is(live: LiveConfig[Config]) -> None:
    made: list[Any] = [[b"whole"], FileWrapper(BytesIO(b"file"))]

    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        start_response("200 OK", PLAIN)
        return made[0]

    while made:
        _, body = get(LivecfgMiddleware(app, live))
        assert body is made.pop(0)


def test_what_the_application_raises_comes_through_and_leaves_no_pin_behind(live: LiveConfig[Config], tree: Path) -> None:
    def app(_environ: WSGIEnvironment, _start_response: StartResponse) -> Any:
        raise LookupError(live.current.config.number)

    with pytest.raises(LookupError, match="1"):
        get(LivecfgMiddleware(app, live))
    switch(live, tree, 2)
    assert live.current.config.number == 2
