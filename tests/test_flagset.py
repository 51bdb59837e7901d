"""FlagSet: what may be declared, what a load checks, what a view gives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from livecfg import Flag, FlagSet, LivecfgError, LiveConfig, RefusedError, UnsafeNoVerification
from livecfg.flagset import declared
from livecfg.testing import override

if TYPE_CHECKING:
    from collections.abc import Iterator

FLAGS = """
flags:
  new-checkout: {state: ENABLED, variants: {"on": true, "off": false}, defaultVariant: "on"}
  page-size: {state: ENABLED, variants: {few: 10, many: 50}, defaultVariant: few}
"""


class Config(BaseModel, frozen=True):
    timeout_s: float = 1.0


class Flags(FlagSet):
    new_checkout = Flag(default=False, kind="release", owner="checkout", expires="2027-03-01")
    size = Flag(20, kind="ops", owner="search", key="page-size")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "livecfg.yaml").write_text("version: 1\nlayers: [base.yaml]\nflags: [flags/**]\n")
    (tmp_path / "base.yaml").write_text("timeout_s: 2\n")
    (tmp_path / "flags").mkdir()
    (tmp_path / "flags/all.yaml").write_text(FLAGS)
    return tmp_path


@pytest.fixture
def live(tree: Path) -> Iterator[LiveConfig[Config]]:
    made = LiveConfig(Config, source=UnsafeNoVerification(tree), service="checkout", env="dev")
    made.flags(Flags)
    yield made
    made.stop()


def test_declared_flags_are_attributes_with_the_values_of_the_unit(live: LiveConfig[Config]) -> None:
    mine = Flags(live.current.view({"targetingKey": "u1"}))
    assert (mine.new_checkout, mine.size) == (True, 10)
    assert (Flags.size.key, Flags.size.owner, list(declared(Flags))) == ("page-size", "search", ["new-checkout", "page-size"])


def test_a_test_overrides_declared_flags_and_is_held_to_their_types(live: LiveConfig[Config]) -> None:
    with override(live, flags={"page-size": 7}) as snapshot:
        mine = Flags(snapshot.view({}))
        assert (mine.size, mine.new_checkout) == (7, False)
    with pytest.raises(LivecfgError, match="declared as int, got str"), override(live, flags={"page-size": "7"}):
        pass


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("page-size", "page-sizes", r"^LC402 the application declares the flag 'page-size', which is in no file"),
        ("many: 50", "many: 50.5", r"^flags/all\.yaml:4:57 LC402 the application declares the flag 'page-size' as int"),
        ('"off": false', '"off": "no"', r"LC4.. "),
    ],
)
def test_a_revision_that_does_not_have_the_declared_flags_is_refused_at_its_place(
    live: LiveConfig[Config], tree: Path, old: str, new: str, said: str
) -> None:
    (tree / "flags/all.yaml").write_text(FLAGS.replace(old, new))
    with pytest.raises(RefusedError, match=said):
        _ = live.current


def test_flags_are_declared_before_the_first_read_and_with_one_type(live: LiveConfig[Config]) -> None:
    class Other(FlagSet):
        size = Flag("ten", kind="ops", owner="search", key="page-size")

    with pytest.raises(LivecfgError, match="'page-size' is declared as int and as str"):
        live.flags(Other)
    _ = live.current
    with pytest.raises(LivecfgError, match="before the first read"):
        live.flags(Flags)


def test_a_set_inherits_what_its_bases_declare() -> None:
    class More(Flags):
        third = Flag("x", kind="permission", owner="ana")

    assert list(declared(More)) == ["new-checkout", "page-size", "third"]
    assert "third" not in declared(Flags)


WRONG: dict[str, tuple[Any, str]] = {
    "no owner": (lambda: Flag(1, kind="ops", owner=""), "expected an owner"),
    "no end": (lambda: Flag(1, kind="release", owner="ana"), "expected expires: a release flag ends"),
    "no day": (
        lambda: Flag(1, kind="release", owner="ana", expires="soon"),
        "expected expires: a day such as 2027-03-01, got 'soon'",
    ),
    "no kind": (lambda: Flag(1, kind="forever", owner="ana"), "expected a kind of release, experiment"),  # type: ignore[arg-type]  # the point
    "no type": (lambda: Flag({1}, kind="ops", owner="ana"), "expected a default of type bool"),  # type: ignore[type-var]  # the point
    "no declaration": (lambda: False, r"expected a declaration, Flag\(default, kind=…, owner=…\), got bool"),
    "twice": (lambda: Flag(1, kind="ops", owner="ana", key="page-size"), "the flag 'page-size' is declared twice"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_declaration_that_lacks_something_is_refused_when_the_class_is_made(what: str) -> None:
    make, said = WRONG[what]
    with pytest.raises(LivecfgError, match=rf"Bad\.wrong: {said}"):
        type("Bad", (Flags,), {"wrong": make()})


def test_mypy_takes_the_right_uses_and_refuses_the_wrong_ones() -> None:
    root = Path(__file__).parents[1]
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--config-file",
        "pyproject.toml",
        "--strict",
        *sorted((root / "tests/typechecking").glob("*.py")),
    ]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=170)
    assert done.returncode == 0, done.stdout + done.stderr
