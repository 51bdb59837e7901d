"""uWSGI forks around Python: its workers switch all the same, however it is started, with threads and a fork after the load."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import venv
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.support import Site, Web, eventually, numbered
from tests.simulator import closed_port

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
VERSION = "2.0.31"


@pytest.fixture(scope="session")
def uwsgi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build uWSGI with the C compiler, by pip, in an environment of its own; fail where that cannot be."""
    folder = tmp_path_factory.mktemp("uwsgi")
    venv.create(folder, with_pip=True)
    command = [str(folder / "bin/python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", f"uwsgi=={VERSION}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"uWSGI {VERSION} could not be built: it needs a C compiler and a package index\n{done.stderr}"
    return folder / "bin/uwsgi"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as made:
        yield made


class Uwsgi(Web):
    """A uWSGI of `tests/e2e/apps/web.py`."""

    def __init__(self, site: Site, program: Path, *words: str, workers: int = 3, **more: str) -> None:
        self.site = site
        self.workers = workers
        self.port = closed_port()
        where = ("--http-socket", f"127.0.0.1:{self.port}", "--module", "tests.e2e.apps.web:application", "--need-app")
        python = ("--virtualenv", str(Path(sys.prefix)), "--enable-threads", "--die-on-term")
        self.process = site.run(str(program), *where, *python, *words, log="uwsgi.log", **more)


MASTER = ("--master", "--processes", "3")


@pytest.mark.parametrize(
    "words",
    [
        MASTER,
        (*MASTER, "--py-call-osafterfork"),
        (*MASTER, "--py-call-uwsgi-fork-hooks"),
        (*MASTER, "--lazy-apps"),
        (*MASTER, "--threads", "4"),
    ],
    ids=" ".join,
)
def test_every_worker_switches_and_a_worker_that_dies_is_replaced_by_one_that_does(
    words: tuple[str, ...], site: Site, uwsgi: Path
) -> None:
    web = Uwsgi(site, uwsgi, *words)
    before = web.all_workers(lambda a: a["commit"] == site.first)
    second = site.repo.publish(numbered(2))
    answers = web.all_workers(lambda a: a["commit"] == second and a["number"] == a["flag"] == 2)
    assert {a["condition"] for a in answers.values()} == {"READY"}
    assert web.process.pid not in answers
    eventually(lambda: any(a["fetcher"] for a in web.answers().values()), 40, site.logs)
    victim = next(iter(before))
    os.kill(victim, signal.SIGKILL)
    third = site.repo.publish(numbered(3))
    assert victim not in web.all_workers(lambda a: a["commit"] == third)


def test_without_a_master_the_one_process_switches(site: Site, uwsgi: Path) -> None:
    web = Uwsgi(site, uwsgi, workers=1)
    web.all_workers(lambda a: a["commit"] == site.first)
    second = site.repo.publish(numbered(2))
    web.all_workers(lambda a: a["commit"] == second)


def test_without_git_the_start_fails_with_the_reason_and_does_not_hang(site: Site, uwsgi: Path) -> None:
    site.stop_server()
    web = Uwsgi(site, uwsgi, *MASTER)
    assert web.process.wait(60) != 0
    assert "FetchError" in (site.path / "uwsgi.log").read_text()
