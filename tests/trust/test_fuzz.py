"""No parser raises but its own errors, however its input is changed; and what was once found is tried for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from livecfg.trust import verify
from tests.trust import fuzz
from tests.trust.fuzz import CORPUS, PARSERS, ForeignError, corpus, one, seeds
from tests.trust.fuzz import fuzz as run
from tests.trust.removed import without

if TYPE_CHECKING:
    from collections.abc import Callable

KEPT = sorted(str(path.relative_to(CORPUS)) for path in CORPUS.glob("*/*"))
NEVER_ACCEPTED = {"commit", "identify", "openpgp_signature", "checkpoint", "walk_tree", "walk_commit"}
"""What always tells something, or is signed over and so always refused: the outcomes are counted instead."""


@pytest.mark.parametrize("name", PARSERS)
def test_five_thousand_inputs_raise_nothing_foreign(name: str) -> None:
    found = run(name, 5_000)
    assert sum(found.errors.values()) > 1_000, "hardly any input was refused: the changes do not bite"
    assert len(found.errors) >= 2
    assert found.accepted > 0 or name in NEVER_ACCEPTED, "no input was accepted: nothing deep was reached"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", PARSERS)
def test_fifty_thousand_inputs_raise_nothing_foreign(name: str) -> None:
    run(name, 50_000, seed=1)


@pytest.mark.parametrize("kept", KEPT)
def test_what_is_kept_raises_nothing_foreign(kept: str) -> None:
    one(kept.partition("/")[0], (CORPUS / kept).read_bytes())


def test_every_parser_has_a_corpus_and_its_first_input_is_the_seed() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(PARSERS)
    assert all(corpus(name) for name in PARSERS)
    written = {(parser, name) for parser, name, _ in seeds()}
    kept = {tuple(path.split("/")) for path in KEPT if not path.partition("/")[2].startswith("found-")}
    assert kept == written, "run PYTHONPATH=. python tests/trust/fuzz.py"


@pytest.mark.parametrize("wrong", [KeyError("x"), RecursionError(), OverflowError(), SystemExit(1)])
def test_a_foreign_error_is_found_and_told_with_its_input(monkeypatch: pytest.MonkeyPatch, wrong: BaseException) -> None:
    monkeypatch.setitem(PARSERS, "tree", _raising(wrong))
    with pytest.raises(ForeignError, match=r"tree raised .* for base64 "):
        run("tree", 10)


def test_an_input_that_takes_long_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "SLOW_S", 0.0)
    with pytest.raises(ForeignError, match="tree took"):
        run("tree", 10)


def test_a_walk_that_a_commit_can_stop_is_found() -> None:
    check = "except RefusedError as error:\n            refusals"
    with without(verify, check, check.replace("RefusedError", "KeyError")), pytest.raises(ForeignError, match="was stopped by"):
        run("walk_policy", 100)


def _raising(wrong: BaseException) -> Callable[[bytes], object]:
    def parse(_: bytes) -> object:
        raise wrong

    return parse
