"""A reload gives what a load from nothing gives, whatever changed since; of what did not change, nothing is made again."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from livecfg.document import DocumentLimits
from livecfg.errors import RefusedError
from livecfg.flags import file
from livecfg.flags import flag as flag_module
from livecfg.flags.file import read_flags
from livecfg.flags.targeting import Dialect
from livecfg.flags.templates import Templates
from livecfg.git.worktree import WorkingTree
from livecfg.layers import Process
from livecfg.loader import load
from livecfg.revision import Revision
from livecfg.scope import Scope, UnsafeTree
from livecfg.signals import Signals
from livecfg.trust.tree import SplitObjects

if TYPE_CHECKING:
    from pathlib import Path

    from livecfg.snapshot import Snapshot

MANIFEST = """
version: 1
layers: [base.yaml]
flags: [flags/one.yaml, "flags/flat/*", "flags/deep/**", "flags/deep/below/**", "flags/{region}/**"]
segments: [segments/**]
experiments: [experiments/**]
"""
EXPERIMENT = """
experiment: try
hypothesis: More is better.
owner: checkout
layer: {name: checkout, slots: [0, 100]}
arms: {"off": {weight: 1}, "on": {weight: 1}}
flag: a
until: 2999-01-31
"""
PATHS = [
    *("one.yaml", "flat/a.yaml", "flat/b.yaml", "flat/c.json", "flat/not/looked/at.yaml", "flat/read.md"),
    *("deep/d.yaml", "deep/below/f.yaml", "deep/below/g.yaml", "deep/below/on/h.yaml"),
]


class Config(BaseModel, frozen=True):
    timeout_s: float = 1.0


class Folder:
    """A working tree that is loaded again and again; `keeps` the trees that were, so that differences are looked for in them."""

    def __init__(self, path: Path, *, keeps: bool = True, killed: str = "", declared: dict[str, object] | None = None) -> None:
        self.path = path
        self.undone: list[tuple[str, str | None]] = []
        self.tree = WorkingTree(path)
        self.objects = SplitObjects(self.tree.objects) if keeps else self.tree.objects
        process = Process("checkout", "prod")
        self.scope = Scope(Config, process, Signals(), lambda: 0, flags=declared or {}, killed=frozenset(killed))
        self.write("livecfg.yaml", MANIFEST)
        self.write("base.yaml", "timeout_s: 2\n")
        self.write("segments/beta.txt", "u1\n")

    def write(self, name: str, text: str | None) -> None:
        """Write a file; without a text there is none."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self.undone.append((name, path.read_text() if path.exists() else None))
        if text is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(text)

    def undo(self) -> None:
        """Take back what was written since the last good load."""
        for name, text in reversed(self.undone.copy()):
            self.write(name, text)

    def load(self, before: Snapshot[Config] | None = None) -> tuple[Snapshot[Config] | None, list[str]]:
        """Load what is there now; gives the snapshot, or what is wrong."""
        tree = self.tree.tree_id()
        try:
            return load(UnsafeTree(Revision("tree", tree), tree), self.objects, self.scope, before), []
        except RefusedError as error:
            return None, sorted(map(str, error.refusals))


def flags_of(keys: list[str], r: random.Random) -> str:
    """Give a file of flags, now and then with a fault."""
    rules: list[dict[str, Any]] = [
        {"if": [{"==": [{"var": "plan"}, r.choice("xyz")]}, "on", "off"]},
        {"if": [{"in": [{"var": "targetingKey"}, {"$ref": "segment:beta"}]}, "on", "off"]},
    ]
    flags = {
        key: {
            "state": r.choice(["ENABLED"] * 20 + ["OFF"]),
            "variants": {"on": True, "off": False},
            "defaultVariant": r.choice(["on", "off"]),
            "targeting": r.choice([*rules, {}, {}]),
        }
        for key in keys
    }
    return json.dumps({"flags": flags})


def one_flag(key: str, value: str) -> str:
    """Give a file with one flag that has one variant."""
    return json.dumps({"flags": {key: {"state": "ENABLED", "variants": {"v": value}, "defaultVariant": "v"}}})


def many_flags(r: random.Random) -> str:
    """Give a file of so many flags that they are remembered by the place of their text."""
    return flags_of([f"m{n}" for n in range(40)], r).replace("OFF", "ENABLED")


def edit_many(text: str, r: random.Random) -> str:
    """Change a file of many flags: a flag or two, those that are there, the root, or the text anyhow."""
    document = json.loads(text) if text[-1:] == "}" else json.loads(many_flags(r))
    flags: dict[str, Any] = document["flags"]
    kind = r.random()
    if kind < 0.6:
        for key in r.sample(sorted(flags), r.randint(1, 2)):
            flags[key] = json.loads(flags_of(["x"], r))["flags"]["x"]
    elif kind < 0.7:
        del flags[r.choice(sorted(flags))]
    elif kind < 0.8:
        places = [*flags.items(), (r.choice(["a", "new", "newer"]), json.loads(flags_of(["x"], r))["flags"]["x"])]
        places.insert(r.randrange(40), places.pop())
        document["flags"] = dict(places)
    elif kind < 0.9:
        document |= r.choice([{"metadata": {"team": r.choice("ab")}}, {"$evaluators": {"beta": r.choice([True, False])}}])
    else:
        return r.choice([f"{text},", text.replace('"m7"', '"m8"'), text.replace("true", "1", 1)])
    return json.dumps(document)


def edit(folder: Folder, r: random.Random) -> None:
    """Change one file, or two."""
    for _ in range(r.randint(1, 2)):
        kind = r.random()
        if kind < 0.1:
            folder.write("segments/beta.txt", f"u{r.randint(1, 3)}\n")
        elif kind < 0.2:
            folder.write("experiments/try.yaml", r.choice([EXPERIMENT, EXPERIMENT.replace("More", "Less"), None]))
        elif kind < 0.3:
            folder.write("base.yaml", f"timeout_s: {r.randint(1, 3)}\n")
        elif kind < 0.6:
            folder.write("flags/deep/many.json", edit_many((folder.path / "flags/deep/many.json").read_text(), r))
        else:
            name = r.choice(PATHS)
            keys = r.choice([[name[-6]], [name[-6]], [name[-6], f"more-{name}"], ["a", "b"]])
            folder.write(f"flags/{name}", r.choice([flags_of(keys, r)] * 8 + [None]))


@pytest.mark.parametrize("seed", range(4))
def test_a_reload_gives_what_a_load_from_nothing_gives(tmp_path: Path, seed: int) -> None:
    r = random.Random(seed)
    declared: dict[str, object] = {"a": False} if seed % 3 else {}
    folder = Folder(tmp_path, keeps=seed < 3, killed="b" if seed % 2 else "", declared=declared)
    for path in PATHS[:5]:
        folder.write(f"flags/{path}", flags_of([path[-6]], r))
    folder.write("flags/deep/many.json", many_flags(r))
    before, seen = None, [0, 0]
    for _ in range(60):
        made, faults = folder.load(before)
        anew, the_same = folder.load()
        assert faults == the_same
        seen[made is None] += 1
        if made is not None and anew is not None:
            assert dict(made.flags) == dict(anew.flags)
            assert list(made.flags) == list(anew.flags)
            assert dict(made.parts.flags) == dict(anew.parts.flags)
            assert made.asked.keys() == anew.asked.keys()
            for key in made.flags:
                for context in ({}, {"plan": "x", "targetingKey": "u1"}, {"plan": "y", "targetingKey": "u2"}):
                    assert made.evaluate(key, None, context).value == anew.evaluate(key, None, context).value
                    assert made.flag(key, None, context) == made.evaluate(key, None, context).value
            before = made
            folder.undone.clear()
        elif r.random() < 0.7:
            folder.undo()
        edit(folder, r)
    assert min(seen) > 3  # both happen: what loads, and what is refused


def test_a_changed_flag_of_many_is_the_only_one_that_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(tmp_path)
    text = many_flags(random.Random(1))
    folder.write("flags/flat/c.json", text)
    before, _ = folder.load()
    document = json.loads(text)
    document["flags"]["m7"] = json.loads(one_flag("m7", "never like this"))["flags"]["m7"]
    folder.write("flags/flat/c.json", json.dumps(document))
    monkeypatch.setattr(file, "read_members", None)  # who reads all of it fails
    after, _ = folder.load(before)
    assert before is not None
    assert after is not None
    assert [key for key in after.flags if after.flags[key] is not before.flags[key]] == ["m7"]
    assert after.flag("m7", "", {}) == "never like this"


def test_a_file_that_is_read_by_another_dialect_is_read_whole() -> None:
    static: list[dict[str, object]] = [{"plan": "x"}, {"plan": "y"}]
    flag = json.loads(one_flag("m", "v"))["flags"]["m"]
    limits, text = DocumentLimits(), json.dumps({"flags": {f"m{n}": flag for n in range(40)}})
    edited = text.replace('"m7"', '"other"')
    one, other = (Dialect("v2", "strict", each, {}, lambda: 0) for each in static)
    before = read_flags(text.encode(), "f.json", limits, one, None, Templates())
    after = read_flags(edited.encode(), "f.json", limits, other, before, Templates())
    assert after.alone.static == {"plan": "y"}
    assert all(flag.dialect.static == {"plan": "y"} for flag in after.flags.values())


def test_a_segment_that_changes_with_a_flag_of_many_reaches_the_others(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    r = random.Random(1)
    document = json.loads(many_flags(r))
    for flag in document["flags"].values():
        flag["targeting"] = {"if": [{"in": [{"var": "targetingKey"}, {"$ref": "segment:beta"}]}, "on", "off"]}
    folder.write("flags/flat/c.json", json.dumps(document))
    before, _ = folder.load()
    document["flags"]["m7"]["defaultVariant"] = "on" if document["flags"]["m7"]["defaultVariant"] == "off" else "off"
    folder.write("flags/flat/c.json", json.dumps(document))
    folder.write("segments/beta.txt", "u2\n")
    after, _ = folder.load(before)
    assert before is not None
    assert after is not None
    assert [made.flag("m9", None, {"targetingKey": "u2"}) for made in (before, after)] == [False, True]


def test_a_changed_file_is_the_only_one_that_is_made_again(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    r = random.Random(1)
    for path in PATHS[:3]:
        folder.write(f"flags/{path}", flags_of([f"of {path}"], r))
    before, _ = folder.load()
    folder.write("flags/flat/a.yaml", one_flag("of flat/a.yaml", "never like this"))
    after, _ = folder.load(before)
    assert before is not None
    assert after is not None
    assert [key for key in after.flags if after.flags[key] is not before.flags[key]] == ["of flat/a.yaml"]
    assert after.flag("of flat/a.yaml", "", {}) == "never like this"
    assert before.flag("of flat/a.yaml", False, {}) in {True, False}  # noqa: FBT003 - the default


def test_a_process_reads_no_rule_of_a_form_that_it_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rule(plan: str) -> str:
        targeting = {"if": [{"==": [{"var": "plan"}, plan]}, "on", "off"]}
        flag = {"state": "ENABLED", "variants": {"on": True, "off": False}, "targeting": targeting}
        return json.dumps({"flags": {"f": flag}})

    folder = Folder(tmp_path)
    made: list[Snapshot[Config] | None] = [None]
    for plan in ("free", "basic", "pro"):
        folder.write("flags/one.yaml", rule(plan))
        made.append(folder.load(made[-1])[0])
    folder.write("flags/one.yaml", rule("team"))
    with monkeypatch.context() as patch:
        patch.setattr(flag_module, "rule_of", None)  # who reads a rule fails
        last, _ = folder.load(made[-1])
    beside, _ = folder.load(made[-1])  # which has none left to lend
    assert last is not None
    assert beside is not None
    for plan in ("pro", "team"):
        assert last.flag("f", None, {"plan": plan}) is beside.flag("f", None, {"plan": plan}) is (plan == "team")


@pytest.mark.parametrize("added", ["flags/flat/b.yaml", "flags/flat/a.yaml", "flags/one.yaml"])
@pytest.mark.parametrize("limits", ["scope_files: 3", "scope_bytes: 500"])
def test_a_reload_counts_what_it_shares_against_the_limits(tmp_path: Path, limits: str, added: str) -> None:
    """Else a revision would be applied by running processes and refused by those that start."""
    folder = Folder(tmp_path)
    folder.write("livecfg.yaml", f"{MANIFEST}limits: {{{limits}}}\n")
    folder.write("segments/beta.txt", None)
    for name in ("one", "flat/a"):
        folder.write(f"flags/{name}.yaml", one_flag(name, "v"))
    before, faults = folder.load()
    assert not faults
    folder.write("base.yaml", "timeout_s: 3\n")
    before, faults = folder.load(before)
    assert not faults
    folder.write(added, one_flag(added[6:-5], "v" * 400))
    if "files" in limits:
        folder.write("flags/flat/c.json", one_flag("c", "v"))
    _, faults = folder.load(before)
    _, anew = folder.load()
    assert faults == anew
    assert "over" in faults[0]


def test_a_change_elsewhere_leaves_the_flags_as_they_are(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("flags/one.yaml", one_flag("f", "v"))
    before, _ = folder.load()
    folder.write("base.yaml", "timeout_s: 9\n")
    folder.write("flags/flat/read.md", "nothing")
    folder.write("flags/flat/not/looked/at.yaml", one_flag("g", "v"))
    after, _ = folder.load(before)
    folder.write("base.yaml", "timeout_s: 8\n")
    last, _ = folder.load(after)
    assert before is not None
    assert after is not None
    assert last is not None
    assert last.config.timeout_s == 8
    assert last.flags is after.flags
    assert after.flags["f"] is before.flags["f"]
