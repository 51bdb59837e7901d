"""Clone: an ordinary clone of a configuration repository, as people work in it; read and committed to without the git program."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from livecfg.cli.output import Exit, fail
from livecfg.errors import CorruptObjectError, MissingObjectError, WrongKindError
from livecfg.trust.commits import parse_commit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from livecfg.revision import Commit, Kind, Objects

_TREES_KEPT = 4096
_KINDS: dict[int, str] = {1: "commit", 2: "tree", 3: "blob"}


class ShallowError(MissingObjectError):
    """An object that a shallow clone does not have, since it ends before it."""

    def __str__(self) -> str:
        """Say what to do about it."""
        return f"this clone is shallow and ends before {self.object_id[:10]}, which is needed here: git fetch --unshallow"


class Clone:
    """The clone that holds `path` (default: the current folder); `Objects` over its object store, re-hashed."""

    def __init__(self, path: Path | None = None) -> None:
        from dulwich.errors import NotGitRepository
        from dulwich.repo import Repo

        try:
            self.repo = Repo.discover(str(path or Path.cwd()))
        except NotGitRepository:
            fail(f"{path or Path.cwd()} is not in a Git repository; `livecfg init DIR` makes one")
        if quarantine := os.environ.get("GIT_QUARANTINE_PATH"):  # in a pre-receive hook: what was pushed lies apart
            others = os.environ.get("GIT_ALTERNATE_OBJECT_DIRECTORIES", "").split(os.pathsep)
            self.repo = Repo(self.repo.path, object_directory=quarantine, alternates=filter(None, others))
        self.root = Path(self.repo.path)
        self.git_dir = Path(self.repo.controldir())
        self._trees: dict[str, bytes] = {}

    @property
    def id_length(self) -> int:
        """How many digits an object id has: 40 for SHA-1, 64 for SHA-256."""
        return self.repo.object_format.hex_length

    def read(self, object_id: str, kind: Kind) -> bytes:
        """Give one object.

        Raises:
            MissingObjectError, CorruptObjectError: it is not there, or is not what its id says.
            WrongKindError: it is of another kind.

        """
        kept = self._trees.get(object_id) if kind == "tree" else None
        if kept is not None:
            return kept
        try:
            number, raw = self.repo.object_store.get_raw(object_id.encode())  # type: ignore[arg-type]  # dulwich's NewType
        except KeyError:
            raise (ShallowError if self.repo.get_shallow() else MissingObjectError)(object_id) from None
        found = _KINDS.get(number, "?")
        digest = hashlib.sha1(usedforsecurity=False) if len(object_id) == 40 else hashlib.sha256()
        digest.update(b"%s %d\0" % (found.encode(), len(raw)) + raw)
        if digest.hexdigest() != object_id:
            raise CorruptObjectError(object_id, "its bytes do not hash to its name")
        if found != kind:
            raise WrongKindError(object_id, found, kind)
        if kind == "tree":  # a walk over history reads the same few again and again
            if len(self._trees) >= _TREES_KEPT:
                self._trees.clear()
            self._trees[object_id] = raw
        return raw

    # --- revisions ----------------------------------------------------------------------------------------------------

    def head(self) -> str:
        """Give the commit of HEAD; empty in a repository without one."""
        try:
            return self.repo.head().decode()
        except KeyError:
            return ""

    def tip(self) -> str:
        """Give the commit of HEAD; ends the command in a repository without one."""
        return self.head() or fail("there is no commit yet; `livecfg init` makes the first one")

    def branch(self) -> str:
        """Give the full name of HEAD's branch; ends the command where there is none."""
        names, _ = self.repo.refs.follow(b"HEAD")  # type: ignore[arg-type]  # dulwich's NewType
        if names[-1] == b"HEAD":
            fail("HEAD is detached: a commit would belong to no branch; `git switch BRANCH` first", Exit.REFUSED)
        return names[-1].decode()

    def resolve(self, name: str) -> str:
        """Give the full id of `HEAD` (or `@`), a branch, a tag or an abbreviated id, with any `~n` and `^n` after it."""
        found = re.fullmatch(r"([^~^]+)((?:[~^]\d{0,6})*)", name)
        if found is None:
            fail(f"{name!r} is no revision: a branch, a tag or an id is expected, with ~n or ^n after it")
        commit = self.tip() if found[1] in {"HEAD", "@"} else self._resolve(found[1])
        for kind, digits in re.findall(r"([~^])(\d*)", found[2]):
            number = int(digits or 1)
            for step in [1] * number if kind == "~" else [number] * (number > 0):
                parents = self.commit(commit).parents
                if step > len(parents):
                    fail(f"{name}: {commit[:10]} has {f'{len(parents)} parents' if parents else 'no parent'}")
                commit = parents[step - 1]
        return commit

    def _resolve(self, name: str) -> str:
        from dulwich.objectspec import parse_commit as parse_name

        try:
            return parse_name(self.repo, name.encode()).id.decode()
        except (KeyError, ValueError):
            fail(f"{name!r} names no commit here")

    def commit(self, commit_id: str, objects: Objects | None = None) -> Commit:
        """Read one commit, of the clone or of other objects."""
        return parse_commit(commit_id, (objects or self).read(commit_id, "commit"))

    def chain(self, tip: str, stop: str = "") -> Iterable[Commit]:
        """Give the first-parent chain from `tip` down to, but without, `stop`; newest first."""
        commit_id = tip
        while commit_id and commit_id != stop:
            commit = self.commit(commit_id)
            yield commit
            commit_id = commit.parents[0] if commit.parents else ""

    # --- about the person ---------------------------------------------------------------------------------------------

    def config(self, section: tuple[str, ...], name: str) -> str:
        """Give one value of the Git configuration (repository, then user); empty when it is not set."""
        try:
            return self.repo.get_config_stack().get(tuple(s.encode() for s in section), name.encode()).decode()
        except KeyError:
            return ""

    def person(self) -> bytes:
        """`name <email>` from the Git configuration or environment."""
        from livecfg.git.writer import Person

        name = os.environ.get("GIT_AUTHOR_NAME") or self.config(("user",), "name")
        email = os.environ.get("GIT_AUTHOR_EMAIL") or self.config(("user",), "email")
        if not name or not email:
            fail("no name and address for commits: git config user.name …; git config user.email …")
        person = Person(name, email)
        return f"{person.name} <{person.email}>".encode()
