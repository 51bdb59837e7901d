from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from livecfg.errors import FetchError
from livecfg.git.mirror import Mirror
from livecfg.git.source import GitSource, Limits
from tests.simulator import ConfigRepo, Fault, GitHttpServer, Tls, make_tls

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def tls(tmp_path: Path) -> Tls:
    return make_tls(tmp_path / "tls")


@pytest.fixture
def https(repo: ConfigRepo, tls: Tls) -> Iterator[GitHttpServer]:
    with GitHttpServer(repo.path, tls=tls, auth="hub:s3cret") as server:
        yield server


def test_https_with_credentials_fetches_and_keeps_its_connection(
    repo: ConfigRepo, https: GitHttpServer, tls: Tls, home: Path
) -> None:
    source = GitSource(https.url(repo.remote_path), auth="hub:s3cret", ca_file=str(tls.authority))
    with Mirror(home, source) as mirror:
        assert mirror.fetch(None) is not None
        tip = repo.publish({"config/checkout/base.yaml": "payment_timeout_s: 3.0\n"})
        candidate = mirror.fetch(None)
        assert candidate is not None
        assert candidate.tip == tip
        https.drop_connections()
        assert mirror.fetch(tip) is None


def test_a_certificate_of_an_unknown_authority_is_refused(repo: ConfigRepo, https: GitHttpServer, home: Path) -> None:
    with Mirror(home, GitSource(https.url(repo.remote_path), auth="hub:s3cret")) as mirror:
        with pytest.raises(FetchError, match="certificate verify failed"):
            mirror.fetch(None)
        assert https.requests == [], "no credentials may be sent to a server that proved nothing"


def test_a_certificate_for_another_host_is_refused(repo: ConfigRepo, https: GitHttpServer, tls: Tls, home: Path) -> None:
    url = https.url(repo.remote_path).replace("127.0.0.1", "127.0.0.2")
    with Mirror(home, GitSource(url, ca_file=str(tls.authority))) as mirror, pytest.raises(FetchError):
        mirror.fetch(None)


@pytest.mark.parametrize("fault", [Fault.DRIP, Fault.HANG])
def test_the_time_limit_cuts_a_connection_inside_tls(
    fault: Fault, repo: ConfigRepo, https: GitHttpServer, tls: Tls, home: Path
) -> None:
    limits = Limits(time_s=0.5, idle_s=30)
    with Mirror(home, GitSource(https.url(repo.remote_path), ca_file=str(tls.authority), limits=limits)) as mirror:
        https.fault = fault
        began = time.monotonic()
        with pytest.raises(FetchError, match=r"LC102.*takes too long"):
            mirror.fetch(None)
        assert time.monotonic() - began < 3
