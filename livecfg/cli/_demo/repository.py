"""The demo's configuration repository: bare, made and signed by livecfg itself; no git and no ssh-keygen program is needed."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from livecfg.git.source import GitSource
    from livecfg.revision import Kind

PERSON = "you@demo"
VALUES_PATH = "config/checkout/prod.yaml"
SPLIT_PATH = "splits/checkout/ranker.yaml"
FLAGS_PATH = "flags/checkout/checkout.yaml"
_MAIN: Any = b"refs/heads/main"  # dulwich marks names and ids by types that nothing else knows

_MANIFEST = """\
version: 1
layers: [config/_shared/base.yaml, "config/{service}/base.yaml", "config/{service}/{env}.yaml"]
flags: ["flags/{service}/**"]
splits: ["splits/{service}/**"]
fractional: v2
"""
_FLAGS = """\
flags:
  cart-backend:
    state: ENABLED
    variants: {stable: stable, canary: canary}
    defaultVariant: stable
"""


def values(**changed: Any) -> bytes:
    """The text of the application's own layer."""
    return yaml.safe_dump({"payment_timeout_s": 2.0} | changed, sort_keys=False).encode()


def split(v9: int) -> bytes:
    """The split `ranker` with a weight of `v9` percent for its new arm."""
    return f"""\
split: ranker
by: user.id
salt: ranker-demo
arms:
  v8: {{weight: {100 - v9}, value: {{model: ranker-v8, top_k: 20}}}}
  v9: {{weight: {v9}, value: {{model: ranker-v9, top_k: 20}}}}
""".encode()


@dataclass(frozen=True, slots=True)
class Key:
    """An Ed25519 key: the private one as an OpenSSH file, the public one as `ssh-ed25519 AAAA…`."""

    private: bytes
    public: str

    @classmethod
    def make(cls) -> Key:
        """Make a new one."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

        made = Ed25519PrivateKey.generate()
        private = made.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        return cls(private, made.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())

    def sign(self, payload: bytes) -> bytes:
        """Sign what a commit signs: an armored SSHSIG in the namespace `git`."""
        from cryptography.hazmat.primitives.serialization import load_ssh_private_key

        from livecfg.trust.signatures import sign

        return sign(load_ssh_private_key(self.private, password=None), "git", payload)


class _Objects:
    """`Objects` over the bare repository, for the writer."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, object_id: str, kind: Kind) -> bytes:  # noqa: ARG002 - the writer knows the kind
        from dulwich.repo import Repo

        with Repo(str(self._folder)) as repo:
            name: Any = object_id.encode()
            content: bytes = repo.object_store.get_raw(name)[1]
            return content


class Repository:
    """A bare repository at `folder`; commits reach it by pushing to `source`, as they would from anywhere else."""

    def __init__(self, folder: Path, key: Key, repo_id: str) -> None:
        self.folder = folder
        self.key = key
        self.repo_id = repo_id

    @classmethod
    def found(cls, folder: Path, key: Key) -> Repository:
        """Make the repository with its first signed commit: policy, signers, manifest, values, a flag and a split."""
        from dulwich.objects import Blob, Commit, Tree
        from dulwich.repo import Repo

        made = cls(folder, key, secrets.token_hex(16))
        folder.mkdir()
        with Repo.init_bare(str(folder), default_branch=b"main") as repo:
            config = repo.get_config()
            config.set((b"http",), b"receivepack", b"true")
            config.write_to_path()
            root = Tree()
            _fill(root, _nested(made._first_files()), repo.object_store.add_object, Blob, Tree)
            repo.object_store.add_object(root)
            commit = Commit()
            commit.tree = root.id
            commit.author = commit.committer = f"you <{PERSON}>".encode()
            commit.author_time = commit.commit_time = int(time.time())
            commit.author_timezone = commit.commit_timezone = 0
            commit.message = b"Found the configuration\n"
            commit.gpgsig = key.sign(commit.as_raw_string()).strip(b"\n")
            repo.object_store.add_object(commit)
            repo.refs[_MAIN] = commit.id
        return made

    def _first_files(self) -> dict[str, bytes]:
        policy = {
            "version": 1,
            "repo_id": self.repo_id,
            "root": {"people": [PERSON], "threshold": 1},
            "rules": [{"id": "all", "paths": ["**"], "allow": ["*"]}],
        }
        return {
            ".livecfg/policy.yaml": yaml.safe_dump(policy, sort_keys=False).encode(),
            ".livecfg/allowed_signers": f"{PERSON} {self.key.public}\n".encode(),
            "livecfg.yaml": _MANIFEST.encode(),
            "config/_shared/base.yaml": b"max_items: 50\n",
            VALUES_PATH: values(),
            FLAGS_PATH: _FLAGS.encode(),
            SPLIT_PATH: split(10),
        }

    @property
    def trusted_root(self) -> bytes:
        """The file the application ships with."""
        pinned = {"version": 1, "repo_id": self.repo_id, "threshold": 1, "people": {PERSON: [self.key.public]}}
        return yaml.safe_dump(pinned, sort_keys=False, width=1000).encode()

    def tip(self) -> str:
        """The commit the branch is at."""
        from dulwich.repo import Repo

        with Repo(str(self.folder)) as repo:
            return repo.refs[_MAIN].decode()

    def read(self, path: str, commit_id: str = "") -> bytes:
        """A file of a commit; default: of the newest one."""
        from dulwich.object_store import tree_lookup_path
        from dulwich.repo import Repo

        with Repo(str(self.folder)) as repo:
            name: Any = commit_id.encode() or repo.refs[_MAIN]
            commit: Any = repo.get_object(name)
            blob: Any = repo.get_object(tree_lookup_path(repo.get_object, commit.tree, path.encode())[1])
            content: bytes = blob.data
            return content

    def publish(
        self, source: GitSource, files: Mapping[str, bytes | None], message: str, *, sign: Callable[[bytes], bytes] | None = None
    ) -> str:
        """Commit on top of the newest commit, push, and give the commit's id; `sign` replaces the demo's own key."""
        from livecfg.git.writer import Person, Writer

        writer = Writer(source, _Objects(self.folder), Person("you", PERSON), sign or self.key.sign)
        return writer.commit(files, message, self.tip(), time.time())

    def publish_unsigned(self, source: GitSource, files: Mapping[str, bytes | None], message: str) -> str:
        """Push a commit with no signature at all, as somebody with access to the Git host but without a key could."""
        from livecfg.git.pack import Entry, object_id, write_pack
        from livecfg.git.push import push
        from livecfg.git.writer import Person, Writer

        parent = self.tip()
        writer = Writer(source, _Objects(self.folder), Person("somebody", "else@demo"), lambda _: b"-")
        built = writer.build(files, message, parent, time.time())
        signed = next(entry for entry in built.entries if entry.name == built.commit)
        head, blank, text = signed.content.partition(b"\n\n")
        content = b"\n".join(line for line in head.split(b"\n") if not line.startswith(b"gpgsig")) + blank + text
        commit = object_id("commit", content, len(parent))
        others = [entry for entry in built.entries if entry.name != built.commit]
        push(source, source.full_ref, parent, commit, write_pack([*others, Entry(commit, "commit", content)], len(parent))[0])
        return commit


def _nested(files: Mapping[str, bytes]) -> dict[str, Any]:
    top: dict[str, Any] = {}
    for path, content in files.items():
        *folders, name = path.split("/")
        level = top
        for folder in folders:
            level = level.setdefault(folder, {})
        level[name] = content
    return top


def _fill(tree: Any, files: dict[str, Any], add: Callable[[Any], None], blob: Any, folder: Any) -> None:
    for name, content in files.items():
        if isinstance(content, dict):
            below = folder()
            _fill(below, content, add, blob, folder)
            add(below)
            tree.add(name.encode(), 0o40000, below.id)
        else:
            made = blob.from_string(content)
            add(made)
            tree.add(name.encode(), 0o100644, made.id)
