"""A mirror damaged under a running host is mended within seconds, even when the host would not ask Git for minutes."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from pydantic import BaseModel

from livecfg import GitSource, LiveConfig
from tests.e2e.support import Site, eventually, numbered

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Checkout(BaseModel, frozen=True):
    payment_timeout_s: float = 1.0
    number: int = -1


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as made:
        yield made


def live_of(site: Site) -> LiveConfig[Checkout]:
    return LiveConfig(
        Checkout,
        source=GitSource(url=site.url),
        trusted_root=site.trusted_root,
        service="checkout",
        env="prod",
        home=site.home,
        poll_interval_s=600,
    )


def objects_of(site: Site) -> list[Path]:
    while True:
        with suppress(FileNotFoundError):  # the mirror was replaced meanwhile: look at the new one
            return [p for p in site.home.glob("*/mirror.git/objects/**/*") if p.is_file()]


def is_mended(site: Site) -> bool:
    with suppress(FileNotFoundError):  # as above, between the list and the look
        return all(p.read_bytes() != b"not what it was" for p in objects_of(site))
    return False


@pytest.mark.parametrize("how", ["overwritten", "deleted"])
def test_a_process_that_starts_on_a_damaged_mirror_is_served_once_the_fetcher_has_mended_it(how: str, site: Site) -> None:
    site.repo.publish(numbered(1))
    with live_of(site) as fetcher:
        assert fetcher.current.config.number == 1
        before = eventually(lambda: objects_of(site) if [*site.home.rglob("state/*.json")] else None)  # kept after the swap
        for path in before:
            path.chmod(0o600)
            if how == "deleted":
                path.unlink()
            else:
                path.write_bytes(b"not what it was")
        with live_of(site) as newcomer:
            assert newcomer.current.config.number == newcomer.current.flag("number", -1, {}) == 1
            assert not newcomer.status.fetcher
        eventually(lambda: is_mended(site), 20)
        assert "objects" in str(objects_of(site)[0])
        assert site.repo.fsck(at=next(site.home.rglob("mirror.git"))) is not None
