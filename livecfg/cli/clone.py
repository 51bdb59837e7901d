"""Clone: an ordinary clone of a configuration repository, as people work in it; read and committed to without the git program."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from livecfg.cli.output import Exit, fail
from livecfg.errors import CorruptObjectError, MissingObjectError
from livecfg.trust.commits import parse_commit
from livecfg.trust.tree import TreeFaultError, entries

if TYPE_CHECKING:
    from collections.abc import Iterable

    from livecfg.revision import Commit, Kind

MANIFEST = "livecfg.yaml"
_KINDS: dict[int, str] = {1: "commit", 2: "tree", 3: "blob"}


class Clone:
    """The clone that holds `path` (default: the current folder); `Objects` over its object store, re-hashed."""

    def __init__(self, path: Path | None = None) -> None:
        from dulwich.errors import NotGitRepository
        from dulwich.repo import Repo

        try:
            self.repo = Repo.discover(str(path or Path.cwd()))
        except NotGitRepository:
            fail(f"{path or Path.cwd()} is not in a Git repository; `livecfg init DIR` makes one")
        self.root = Path(self.repo.path)

    def read(self, object_id: str, kind: Kind) -> bytes:
        """Give one object.

        Raises:
            MissingObjectError, CorruptObjectError: it is not there, or is not what its id says.

        """
        try:
            number, raw = self.repo.object_store.get_raw(object_id.encode())  # type: ignore[arg-type]  # dulwich's NewType
        except KeyError:
            raise MissingObjectError(object_id) from None
        found = _KINDS.get(number, "?")
        digest = hashlib.sha1(usedforsecurity=False) if len(object_id) == 40 else hashlib.sha256()
        digest.update(b"%s %d\0" % (found.encode(), len(raw)) + raw)
        if found != kind or digest.hexdigest() != object_id:
            raise CorruptObjectError(object_id, "its bytes do not hash to its name")
        return raw

    # --- revisions ----------------------------------------------------------------------------------------------------

    def head(self) -> str:
        """Give the commit of HEAD; empty in a repository without one."""
        try:
            return self.repo.head().decode()
        except KeyError:
            return ""

    def resolve(self, name: str) -> str:
        """Give the full id of `HEAD`, a branch, a tag, `X~n` or an abbreviated id."""
        base, tilde, steps = name.partition("~")
        commit = self._resolve(base)
        for _ in range(int(steps or 1) if tilde and (steps or "1").isdigit() else 0):
            parents = self.commit(commit).parents
            if not parents:
                fail(f"{name}: {commit[:10]} has no parent")
            commit = parents[0]
        return commit

    def _resolve(self, name: str) -> str:
        from dulwich.objectspec import parse_commit as parse_name

        try:
            return parse_name(self.repo, name.encode()).id.decode()
        except (KeyError, ValueError):
            fail(f"{name!r} names no commit here")

    def commit(self, commit_id: str) -> Commit:
        """Read one commit."""
        return parse_commit(commit_id, self.read(commit_id, "commit"))

    def chain(self, tip: str, stop: str = "") -> Iterable[Commit]:
        """Give the first-parent chain from `tip` down to, but without, `stop`; newest first."""
        commit_id = tip
        while commit_id and commit_id != stop:
            commit = self.commit(commit_id)
            yield commit
            commit_id = commit.parents[0] if commit.parents else ""

    # --- changing -----------------------------------------------------------------------------------------------------

    def stage(self, paths: Iterable[str] = ()) -> None:
        """Put files (default: everything that differs) into the index, as `git add` does."""
        from dulwich import porcelain

        if paths := list(paths):
            self.repo.get_worktree().stage(paths)
            return
        porcelain.add(self.repo, [str(self.root)])
        status = porcelain.status(self.repo)
        self.repo.get_worktree().stage([os.fsdecode(path) for path in status.unstaged])

    def check_no_merge(self) -> None:
        """Refuse to commit while git is merging: the second parent would be lost."""
        if (Path(self.repo.controldir()) / "MERGE_HEAD").exists():
            fail("a merge is in progress: finish it with `git commit -S`, or `git merge --abort`", Exit.REFUSED)

    def check_nothing_staged(self) -> None:
        """Refuse when the index already differs from HEAD: a signature must not cover what was not asked for."""
        head = self.head()
        if head and self.repo.open_index().commit(self.repo.object_store).decode() != self.commit(head).tree:
            fail("something is staged already: commit it or unstage it first (`git restore --staged .`)", Exit.REFUSED)

    def make_commit(self, message: str, key: Any, *, empty: bool = False) -> str:
        """Commit the index, signed; HEAD's branch moves only if nobody else moved it."""
        from dulwich.objects import Commit as GitCommit

        from livecfg.trust.signatures import sign

        self.check_no_merge()
        parent = self.head()
        tree = self.commit(parent).tree.encode() if empty else self.repo.open_index().commit(self.repo.object_store)
        if parent and not empty and self.commit(parent).tree == tree.decode():
            fail("nothing to commit: the working tree is what HEAD has", Exit.FINDINGS)
        person = self.person()
        made: Any = GitCommit()
        made.tree = tree
        made.parents = [parent.encode()] if parent else []
        made.author = made.committer = person
        made.author_time = made.commit_time = int(time.time())
        made.author_timezone = made.commit_timezone = -time.timezone if not time.daylight else -time.altzone
        made.encoding = None
        made.message = message.rstrip("\n").encode() + b"\n"
        made.gpgsig = sign(key, "git", made.as_raw_string()).rstrip(b"\n")
        self.repo.object_store.add_object(made)
        if not self.repo.refs.set_if_equals(b"HEAD", parent.encode() or None, made.id):  # type: ignore[arg-type]  # NewType
            fail("HEAD moved meanwhile; look again", Exit.REFUSED)
        commit_id: str = made.id.decode()
        return commit_id

    def config(self, section: tuple[str, ...], name: str) -> str:
        """Give one value of the Git configuration (repository, then user); empty when it is not set."""
        try:
            return self.repo.get_config_stack().get(tuple(s.encode() for s in section), name.encode()).decode()
        except KeyError:
            return ""

    def person(self) -> bytes:
        """`name <email>` from the Git configuration or environment."""
        name = os.environ.get("GIT_AUTHOR_NAME") or self.config(("user",), "name")
        email = os.environ.get("GIT_AUTHOR_EMAIL") or self.config(("user",), "email")
        if not name or not email:
            fail("no name and address for commits: git config user.name …; git config user.email …")
        return f"{name} <{email}>".encode()


def signing_key(clone: Clone | None, given: Path | None) -> tuple[Any, Path]:
    """Load the SSH key to sign with: `--key`, LIVECFG_KEY, or Git's `user.signingkey`; ask for its passphrase on a terminal."""
    configured = clone.config(("user",), "signingkey") if clone is not None else ""
    name = str(given or "") or os.environ.get("LIVECFG_KEY", "") or configured
    if not name:
        fail("no key to sign with: give --key, set LIVECFG_KEY, or `git config user.signingkey PATH` with gpg.format=ssh")
    path = Path(name).expanduser()
    if path.suffix == ".pub":
        path = path.with_suffix("")
    return load_key(path), path


def load_key(path: Path) -> Any:
    """Load one private key file in OpenSSH's format."""
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    try:
        data = path.read_bytes()
    except OSError as error:
        fail(f"cannot read the key {path}: {error.strerror}")
    passphrase = None
    while True:
        try:
            return load_ssh_private_key(data, passphrase)
        except (TypeError, ValueError) as error:
            if "assword" not in str(error) and "encrypted" not in str(error) and passphrase is None:
                fail(f"{path} is not an OpenSSH private key (an ed25519, ECDSA or RSA one is expected)")
            if not sys.stdin.isatty():
                fail(f"{path} has a passphrase and there is no terminal to ask on; use a key without, or an unlocked copy")
            passphrase = click.prompt(f"Passphrase of {path}", hide_input=True, err=True).encode()


def files_of(clone: Clone, tree: str, prefix: str = "") -> dict[str, str]:
    """Give path → blob id of everything below a tree."""
    from livecfg.trust.tree import walk

    try:
        return {path: entry.id for path, entry in walk(clone, tree, prefix)}
    except TreeFaultError as error:
        fail(str(error), Exit.FINDINGS)


__all__ = ["MANIFEST", "Clone", "entries", "files_of", "load_key", "signing_key"]
