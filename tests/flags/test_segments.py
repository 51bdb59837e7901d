"""Segments: files of members that rules name, from a working tree to a view and out again as plain flagd."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from pydantic import BaseModel

from livecfg import LiveConfig, RefusedError, UnsafeNoVerification
from livecfg.flags.experiment import exported
from livecfg.flags.segment import Segment, read_segment
from livecfg.testing import snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BETA = {"in": [{"var": "user.id"}, {"$ref": "segment:beta"}]}
FLAG = {"state": "ENABLED", "variants": {"true": True, "false": False}, "targeting": BETA}
FLAGS = """
flags:
  beta: {state: ENABLED, variants: {"on": true, "off": false}, defaultVariant: "off", targeting:
      {if: [{in: [{var: user.id}, {$ref: "segment:beta"}]}, "on"]}}
  plain: {state: ENABLED, variants: {a: a}, defaultVariant: a}
"""
SPLIT = """
split: ranker
salt: s
where: {in: [{var: user.id}, {$ref: "segment:beta"}]}
arms: {old: {weight: 0}, new: {weight: 1}}
"""
EXPERIMENT = """
experiment: copy
hypothesis: Shorter is better.
owner: shop
audience: {in: [{var: user.id}, {$ref: "segment:beta"}]}
arms: {a: {weight: 0}, b: {weight: 1}}
flag: copy
until: 2999-01-31
"""
COPY = "flags:\n  copy: {state: ENABLED, variants: {a: long, b: short}, defaultVariant: a}\n"


class Config(BaseModel, frozen=True):
    timeout_s: float = 1.0


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    manifest = "version: 1\nlayers: [base.yaml]\nflags: [flags/**]\nsplits: [splits/**]\nexperiments: [experiments/**]\n"
    files = {
        "livecfg.yaml": manifest + "segments: [segments/**]\n",
        "base.yaml": "timeout_s: 2\n",
        "flags/all.yaml": FLAGS,
        "flags/copy.yaml": COPY,
        "splits/ranker.yaml": SPLIT,
        "experiments/copy.yaml": EXPERIMENT,
        "segments/beta.txt": "# who asked for it\nu1\n\nü2\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def live(tree: Path) -> Iterator[LiveConfig[Config]]:
    made = LiveConfig(Config, source=UnsafeNoVerification(tree), service="shop", env="dev", poll_interval_s=0.1)
    yield made
    made.stop()


def served(live: LiveConfig[Config], user: str) -> tuple[bool, str, str]:
    """What the flag, the flag under the experiment and the split give."""
    snapshot = live.current
    context = {"targetingKey": user, "user": {"id": user}}
    view = snapshot.view(context)
    return view.flag("beta", default=False), view.flag("copy", ""), snapshot.splits["ranker"].choose(context)


def test_flags_splits_and_experiments_name_a_segment_by_reference(live: LiveConfig[Config]) -> None:
    assert served(live, "u1") == served(live, "ü2") == (True, "short", "new")
    assert served(live, "u3") == served(live, "# who asked for it") == served(live, "") == (False, "long", "old")


def test_a_changed_segment_changes_what_names_it_and_nothing_else(tree: Path, live: LiveConfig[Config]) -> None:
    swapped = threading.Event()
    live.on_change("beta")(lambda *_: swapped.set())
    before = live.current
    (tree / "segments/beta.txt").write_text("u3\n")
    assert swapped.wait(30)
    assert served(live, "u3") == (True, "short", "new")
    assert served(live, "u1") == (False, "long", "old")
    assert live.current.flags["plain"] is before.flags["plain"]
    assert live.current.flags["beta"] != before.flags["beta"]


def test_an_unrelated_segment_leaves_everything_compiled(tree: Path, live: LiveConfig[Config]) -> None:
    swapped = threading.Event()
    live.on_change()(lambda *_: swapped.set())
    before = live.current
    (tree / "segments/other.txt").write_text("u3\n")
    assert swapped.wait(30)
    assert live.current.flags["beta"] is before.flags["beta"]
    assert live.current.splits["ranker"] is before.splits["ranker"]


@pytest.mark.parametrize(
    ("path", "data", "said"),
    [
        ("segments/beta.txt", "u1\nu2\n\nu1\n", r"segments/beta\.txt:4:1 LC404 the member of line 1 stands here again"),
        ("segments/beta.txt", "u1\nu2 \n", r"segments/beta\.txt:2:3 LC404 white space around a member"),
        ("segments/beta.txt", "u1\n\tu2\n", r"segments/beta\.txt:2:1 LC404 white space around a member"),
        ("segments/beta.txt", "u1\nu\u202e2\n", r"segments/beta\.txt:2:2 LC404 a character that cannot be seen"),
        ("segments/beta.txt", "u1\r\n", r"segments/beta\.txt:1:3 LC404 white space around a member"),
        ("segments/beta.txt", "u1\n\udcff\n", r"segments/beta\.txt:2:1 LC404 expected UTF-8 text"),
        ("segments/more/beta.txt", "u9\n", r"segments/more/beta\.txt LC404 the segment 'beta' stands in segments/beta\.txt too"),
        ("flags/all.yaml", FLAGS.replace("segment:beta", "segment:bta"), r"flags/all\.yaml:4:35 LC402 there is no segment 'bta'"),
        (
            "splits/ranker.yaml",
            SPLIT.replace("segment:beta", "segment:x"),
            r"splits/ranker\.yaml:4:30 LC402 there is no segment 'x'",
        ),
        (
            "experiments/copy.yaml",
            EXPERIMENT.replace("segment:beta", "segment:x"),
            r"experiments/copy\.yaml:5:33 LC402 there is no segment 'x'",
        ),
        (
            "flags/all.yaml",
            FLAGS + '$evaluators: {"segment:mine": {"==": [1, 1]}}\n',
            r"flags/all\.yaml:6:15 LC401 names that begin with segment: are those of segments",
        ),
        (
            "flags/all.yaml",
            FLAGS.replace('{in: [{var: user.id}, {$ref: "segment:beta"}]}', '{$ref: "segment:beta"}'),
            r"flags/all\.yaml:4:13 LC402 expected a rule, got a segment",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_at_its_place(
    tree: Path, live: LiveConfig[Config], path: str, data: str, said: str
) -> None:
    (tree / path).parent.mkdir(exist_ok=True)
    (tree / path).write_bytes(data.encode(errors="surrogateescape"))
    with pytest.raises(RefusedError, match=said):
        _ = live.current


def test_a_segment_over_the_limits_of_the_manifest_is_refused(tree: Path, live: LiveConfig[Config]) -> None:
    with (tree / "livecfg.yaml").open("a") as manifest:
        manifest.write("limits: {segment_bytes: 10}\n")
    with pytest.raises(RefusedError, match=r"beta\.txt:1:1 LC404 27 bytes; at most 10 are read"):
        _ = live.current


@pytest.mark.parametrize("gate", ["strict", "flagd"])
def test_a_segment_that_is_nowhere_is_refused_under_either_gate(gate: str) -> None:
    with pytest.raises(RefusedError, match="there is no segment 'beta'"):
        snapshot(flags={"flags": {"f": FLAG}}, gate=gate)  # type: ignore[arg-type]  # one of the two


def test_the_export_writes_the_members_out_and_gives_the_same() -> None:
    members = [f"u{i}" for i in range(0, 200, 2)]
    ours = snapshot(flags={"flags": {"f": FLAG}}, segments={"beta": members})
    plain = exported(ours.flags)
    assert plain["flags"]["f"]["targeting"] == {"in": [{"var": "user.id"}, sorted(members)]}
    theirs = snapshot(flags=plain, gate="flagd")
    for i in range(200):
        context = {"user": {"id": f"u{i}"}}
        assert ours.evaluate("f", False, context) == theirs.evaluate("f", False, context)  # noqa: FBT003 - the default


def test_a_hundred_thousand_members_are_kept_once_as_a_set() -> None:
    segment = read_segment("".join(f"user-{i}\n" for i in range(100_000)).encode(), "segments/big.txt", "v", 16 << 20)
    assert (segment.name, len(segment.members)) == ("big", 100_000)
    made = snapshot(flags={"flags": {"f": FLAG, "g": FLAG}}, segments={"beta": segment.members})
    sets = [value for key in "fg" for value in made.flags[key].ready().__defaults__ or () if isinstance(value, frozenset)]
    assert len(sets) == 2
    assert sets[0] is sets[1]
    assert made.flag("f", False, {"user": {"id": "user-99999"}}) is True  # noqa: FBT003 - the default


def test_a_segment_of_the_same_name_with_other_members_is_another() -> None:
    made: Callable[[str], Segment] = lambda version: Segment("beta", version, ["u1"])  # noqa: E731 - three uses
    assert made("1") == made("1") != made("2")
