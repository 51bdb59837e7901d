"""Stores in memory are closed when their test ends: from Python 3.13 on SQLite says so of those that are not."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from livecfg.hub.stores import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _closes_stores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with ExitStack() as opened:
        make = SqliteStore.__init__

        def init(store: SqliteStore, url: str) -> None:
            make(store, url)
            opened.callback(store.close)

        monkeypatch.setattr(SqliteStore, "__init__", init)
        yield
