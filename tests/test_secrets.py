"""Secrets: references and encrypted documents become SecretStr fields, and their plaintext goes nowhere else."""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, Field, SecretStr, field_validator

from livecfg import Condition, FetchError, GitSource, LivecfgError, LiveConfig, RefusedError, SecretSources, Snapshot
from livecfg.document import read
from livecfg.layers import Process
from livecfg.loader import load
from livecfg.resolver import SecretResolver
from livecfg.revision import Revision
from livecfg.scope import Scope, UnsafeTree
from livecfg.secrets import SealedSource
from livecfg.signals import Signals
from tests.e2e.support import eventually
from tests.simulator import ConfigRepo
from tests.simulator.memory import MemoryRepo
from tests.simulator.sops import AgeKey, as_json, as_yaml, encrypted, sops

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from livecfg.secrets import SecretSource

PLAIN = "hunter2-correct-horse"
PROD = "config/checkout/prod.yaml"


class Database(BaseModel, frozen=True):
    host: str = "db"
    password: SecretStr = SecretStr("")
    ports: list[int] = []


class Config(BaseModel, frozen=True):
    database: Database = Database()
    token: SecretStr | None = Field(None, min_length=4)
    peers: dict[str, SecretStr] = {}
    name: str = ""
    number: int = 0

    @field_validator("token")
    @classmethod
    def _speaks(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and token.get_secret_value().startswith("bad"):
            raise ValueError(f"cannot use {token.get_secret_value()}")
        return token


def loaded(text: str, source: SecretSource, before: Snapshot[Config] | None = None, name: str = "prod.yaml") -> Snapshot[Config]:
    """Load one layer with a source of secrets."""
    repo = MemoryRepo()
    repo.root = (("ana",), 1)
    manifest = b"version: 1\nlayers: [config/base.yaml, config/prod.yaml, config/prod.json]\n"
    files = repo.policy(["ana"], [{"id": "all", "paths": ["**"], "allow": ["*"]}]) | {
        "livecfg.yaml": manifest,
        "config/base.yaml": b"{}\n",
        f"config/{name}": text.encode(),
    }
    tree = repo.tree(files)
    scope = Scope(Config, Process("checkout", "prod"), Signals(), lambda: 0, secrets=source)
    return load(UnsafeTree(Revision("local", tree), tree), repo, scope, before)


def resolver(*folders: Path, env: tuple[str, ...] = ("*",), plugins: Any = None, **variables: str) -> SecretResolver:
    return SecretResolver(SecretSources(env=env, folders=folders, plugins=plugins or {}), variables)


def refusals(text: str, source: SecretSource, name: str = "prod.yaml") -> list[str]:
    with pytest.raises(RefusedError) as caught:
        loaded(text, source, name=name)
    assert PLAIN not in repr(caught.value) + str(caught.value)
    return [str(r) for r in caught.value.refusals]


# --- references -----------------------------------------------------------------------------------------------------------


def test_references_give_variables_files_and_what_plug_ins_know(tmp_path: Path) -> None:
    (tmp_path / "peer").write_text(f"{PLAIN}-file\n")
    text = (
        "database: {password: !secret env:DB_PASSWORD}\ntoken: !secret vault:checkout/token\n"
        f"peers:\n  one: !secret file:{tmp_path}/peer\n"
    )
    config = loaded(text, resolver(tmp_path, plugins={"vault": lambda name: f"{PLAIN} of {name}"}, DB_PASSWORD=PLAIN)).config
    assert config.database.password.get_secret_value() == PLAIN
    assert config.token is not None
    assert config.token.get_secret_value() == f"{PLAIN} of checkout/token"
    assert config.peers["one"].get_secret_value() == f"{PLAIN}-file"  # without the line end that editors add
    assert PLAIN not in repr(config) + config.model_dump_json()


def test_a_secret_does_not_fit_any_other_field() -> None:
    source = resolver(A=PLAIN, N="7")
    (said,) = refusals("name: !secret env:A\n", source)
    assert said.startswith("config/prod.yaml:1:7 LC230 name: a secret may stand only in a field of type SecretStr (change")
    assert "LC230 number" in refusals("number: !secret env:N\n", source)[0]
    assert "LC230 database.ports[0]" in refusals("database: {ports: [!secret env:N]}\n", source)[0]


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("env:MISSING", "the variable MISSING is not set in this process"),
        ("env:LIVECFG_HUB_TOKEN", "the variable LIVECFG_HUB_TOKEN may not be referred to"),
        ("env:SOPS_AGE_KEY", "the variable SOPS_AGE_KEY may not be referred to"),
        ("file:/etc/hostname", "the file /etc/hostname may not be referred to"),
        ("file:FOLDER/../x", "may not be referred to"),
        ("file:FOLDER/none", "cannot be read: No such file or directory"),
        ("file:FOLDER/link", "leads out of its folder"),
        ("file:FOLDER/pipe", "cannot be read: it is no regular file"),
        ("file:FOLDER/big", "cannot be read: it is over 65,536 bytes"),
        ("file:FOLDER/binary", "cannot be read: it is not UTF-8"),
        ("vault:x", "no source of secrets is called 'vault'; there are env, file"),
        (PLAIN, "expected a reference of the form scheme:name"),
    ],
)
def test_a_reference_that_gives_nothing_is_refused_with_its_place(reference: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/hostname")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "big").write_bytes(b"x" * 65_537)
    (tmp_path / "binary").write_bytes(b"\xff")
    source = resolver(tmp_path, LIVECFG_HUB_TOKEN=PLAIN, SOPS_AGE_KEY=PLAIN)
    (said,) = refusals(f"token: !secret {reference.replace('FOLDER', str(tmp_path))}\n", source)
    assert said.startswith("config/prod.yaml:1:8 LC230 token: ")
    assert says in said


def test_an_application_bounds_which_variables_may_be_referred_to() -> None:
    source = resolver(env=("CHECKOUT_*",), CHECKOUT_TOKEN=PLAIN, AWS_SECRET=PLAIN)
    assert loaded("token: !secret env:CHECKOUT_TOKEN\n", source).config.token == SecretStr(PLAIN)
    assert "may not be referred to" in refusals("token: !secret env:AWS_SECRET\n", source)[0]
    with pytest.raises(LivecfgError, match="the scheme 'env' is built in"):
        SecretSources(plugins={"env": str})


def test_a_validator_that_shows_the_secret_is_not_quoted() -> None:
    (said,) = refusals("token: !secret env:A\n", resolver(A=f"bad {PLAIN}"))
    assert said.startswith("config/prod.yaml:1:8 LC230 token: the secret does not fit the model (value_error) (look at")
    (said,) = refusals("token: !secret env:A\n", resolver(A="abc"))
    assert "too_short" in said
    assert "3" not in said.partition("LC230")[2]


def test_a_plug_in_that_fails_means_later_and_its_message_is_not_repeated() -> None:
    def fails(_: str) -> str:
        raise ConnectionError(PLAIN)

    with pytest.raises(FetchError, match="the secret vault:x: the plug-in failed with ConnectionError") as caught:
        loaded("token: !secret vault:x\n", resolver(plugins={"vault": fails}))
    assert caught.value.__cause__ is None


def test_references_are_for_layers_alone() -> None:
    with pytest.raises(RefusedError, match="the tag !secret"):
        read(b"a: !secret env:A\n", "flags/a.yaml")


def test_secrets_are_resolved_anew_only_when_a_layer_or_a_file_changed(tmp_path: Path) -> None:
    asked: list[str] = []
    (tmp_path / "key").write_text("aaaa")
    source = resolver(tmp_path, plugins={"vault": lambda name: asked.append(name) or PLAIN})
    text = f"token: !secret vault:t\ndatabase: {{password: !secret file:{tmp_path}/key}}\n"
    first = loaded(text, source)
    assert loaded(text, source, first).config is first.config
    assert asked == ["t"]
    (tmp_path / "key").write_text("bbbbb")
    assert source.look()
    assert not source.look()
    second = loaded(text, source, first)
    assert second.config.database.password.get_secret_value() == "bbbbb"
    assert asked == ["t", "t"]


# --- SOPS -----------------------------------------------------------------------------------------------------------------

DOCUMENT: dict[str, Any] = {
    "name": "shop",
    "number": 7,
    "database": {"password": PLAIN, "ports": [5432, 5433]},
    "peers": {"one": f"{PLAIN} one", "two": f"{PLAIN} two"},
    "token": f"{PLAIN} token",
}


def is_secret(key: str) -> bool:
    return key in {"password", "peers", "token"}


@pytest.mark.parametrize("mac_only_encrypted", [False, True])
@pytest.mark.parametrize("kind", ["yaml", "json"])
def test_an_encrypted_document_fills_secret_fields_and_leaves_the_rest_plain(kind: str, *, mac_only_encrypted: bool) -> None:
    mine, other = AgeKey(), AgeKey()
    document = encrypted(DOCUMENT, other, mine, only=is_secret, mac_only_encrypted=mac_only_encrypted)
    text = as_yaml(document) if kind == "yaml" else as_json(document)
    assert PLAIN not in text
    keys = f"# a comment\n{AgeKey().secret}\n{mine.secret}\n"
    snapshot = loaded(text, resolver(SOPS_AGE_KEY=keys), name=f"prod.{kind}")
    config = snapshot.config
    assert (config.name, config.number, config.database.ports) == ("shop", 7, [5432, 5433])
    assert config.database.password.get_secret_value() == PLAIN
    assert config.peers["two"].get_secret_value() == f"{PLAIN} two"
    assert PLAIN not in repr(snapshot) + repr(snapshot.parts)
    origin = snapshot.explain("database.password")
    assert (origin.path, origin.line > 1) == (f"config/prod.{kind}", True)


WRITTEN = """# shop
name: shop
number: 7 # seven
database:
  # the head of a mapping
  password: hunter2-correct-horse # and its line
  ports:
    # the head of a list
    - 5432 # the first
    - 5433
    # its foot
peers:
  # who else
  one: 2026-11-26
  two: 2026-11-26T10:00:00Z
  three: |
    several

    lines
token: true-enough
"""


@pytest.mark.parametrize("mac_only_encrypted", [False, True])
@pytest.mark.parametrize("only", ["^(password|peers|token)$", "^(password|peers|token|ports)$"])
def test_what_the_real_sops_writes_is_read(only: str, tmp_path: Path, *, mac_only_encrypted: bool) -> None:
    mine = AgeKey()
    (tmp_path / "prod.yaml").write_text(WRITTEN)
    rule = {"age": str(mine.recipient), "encrypted_regex": only, "mac_only_encrypted": mac_only_encrypted}
    (tmp_path / ".sops.yaml").write_text(json.dumps({"creation_rules": [rule]}))
    text = sops("encrypt", "prod.yaml", at=tmp_path)
    assert ("mac_only_encrypted: true" in text) == mac_only_encrypted
    source = resolver(SOPS_AGE_KEY=mine.secret)
    if "ports" in only:  # numbers that need not be secret, and the comments that the program makes items of the list
        assert text.count("- ENC[") > 2
        assert [s.partition(" LC230 ")[2][:17] for s in refusals(text, source)] == ["database.ports[0]", "database.ports[1]"]
        return
    config = loaded(text, source).config
    assert (config.name, config.number, config.database.ports) == ("shop", 7, [5432, 5433])
    assert config.database.password.get_secret_value() == PLAIN
    plain = {name: peer.get_secret_value() for name, peer in config.peers.items()}
    assert plain == {"one": "2026-11-26T00:00:00Z", "two": "2026-11-26T10:00:00Z", "three": "several\n\nlines\n"}


def test_the_age_key_may_stand_in_a_file_and_a_new_file_is_noticed(tmp_path: Path) -> None:
    mine = AgeKey()
    text = as_yaml(encrypted(DOCUMENT, mine, only=is_secret))
    source = resolver(SOPS_AGE_KEY_FILE=str(tmp_path / "keys.txt"))
    assert "SOPS_AGE_KEY_FILE cannot be read: No such file" in refusals(text, source)[0]
    (tmp_path / "keys.txt").write_text(mine.secret)
    assert source.look()
    assert loaded(text, source).config.database.password.get_secret_value() == PLAIN


def test_values_that_are_encrypted_without_need_are_refused_in_plain_fields() -> None:
    mine = AgeKey()
    said = refusals(as_yaml(encrypted({"number": 7, "name": "x"}, mine)), resolver(SOPS_AGE_KEY=mine.secret))
    assert [s.partition(" LC230 ")[2].partition(":")[0] for s in said] == ["name", "number"]


def swapped(document: dict[str, Any]) -> None:
    document["peers"]["one"], document["peers"]["two"] = document["peers"]["two"], document["peers"]["one"]


def removed(document: dict[str, Any]) -> None:
    del document["peers"]["two"]


def plain_changed(document: dict[str, Any]) -> None:
    document["name"] = "shop2"


def replaced_by_plain(document: dict[str, Any]) -> None:
    document["token"] = "mine"


def bit_flipped(document: dict[str, Any]) -> None:
    token = document["token"]
    at = token.index("data:") + 5
    document["token"] = token[:at] + ("B" if token[at] == "A" else "A") + token[at + 1 :]


def mac_of_another_time(document: dict[str, Any]) -> None:
    document["sops"]["lastmodified"] = "2026-11-26T10:00:01Z"


def malformed(document: dict[str, Any]) -> None:
    document["token"] = "ENC[AES256_GCM,data:!!,iv:AAAA,tag:AAAA,type:str]"


@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        (swapped, "peers.one: it cannot be decrypted"),
        (removed, "the MAC does not match"),
        (plain_changed, "the MAC does not match"),
        (replaced_by_plain, "the MAC does not match"),
        (bit_flipped, "token: it cannot be decrypted"),
        (mac_of_another_time, "sops.mac: it cannot be decrypted"),
        (malformed, "token: a malformed encrypted value"),
    ],
)
def test_an_encrypted_document_that_was_changed_is_refused(tamper: Callable[[dict[str, Any]], None], says: str) -> None:
    mine = AgeKey()
    document = encrypted(DOCUMENT, mine, only=is_secret)
    tamper(document)
    assert says in "\n".join(refusals(as_yaml(document), resolver(SOPS_AGE_KEY=mine.secret)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"age": []}, "encrypted for no age recipient"),
        ({"age": None, "kms": [{}]}, "encrypted for no age recipient"),
        ({"key_groups": [{}], "shamir_threshold": 2}, "key groups are not supported"),
        ({"lastmodified": 3}, "lastmodified"),
    ],
)
def test_documents_of_other_kinds_of_keys_are_refused_with_advice(change: dict[str, Any], says: str) -> None:
    mine = AgeKey()
    document = encrypted(DOCUMENT, mine, only=is_secret)
    document["sops"] |= change
    assert says in refusals(as_yaml(document), resolver(SOPS_AGE_KEY=mine.secret))[0]


def test_without_the_right_key_it_says_for_whom_the_document_is() -> None:
    mine = AgeKey()
    text = as_yaml(encrypted(DOCUMENT, mine, only=is_secret))
    for source in (resolver(), resolver(SOPS_AGE_KEY=AgeKey().secret)):
        assert f"no age key here opens it; it is for {mine.recipient}" in refusals(text, source)[0]
    assert "an age key here is malformed" in refusals(text, resolver(SOPS_AGE_KEY=f"AGE-SECRET-KEY-{PLAIN}"))[0]


def test_tools_without_keys_see_what_changed_and_not_the_values() -> None:
    mine = AgeKey()
    text = as_yaml(encrypted(DOCUMENT, mine, only=is_secret)) + "extra: !secret env:X\n"
    with pytest.raises(RefusedError, match="extra is not a known key"):
        loaded(text, SealedSource())
    shown = loaded(text.replace("extra: !secret env:X\n", ""), SealedSource())
    assert shown.config.token is not None
    assert shown.config.token.get_secret_value().startswith("encrypted ")


# --- through LiveConfig ---------------------------------------------------------------------------------------------------


@pytest.fixture
def repo(tmp_path: Path) -> ConfigRepo:
    repo = ConfigRepo(tmp_path / "repo")
    repo.found({"config/_shared/base.yaml": "{}\n"})
    return repo


Make = "Callable[..., LiveConfig[Config]]"


@pytest.fixture
def make(repo: ConfigRepo, tmp_path: Path) -> Iterator[Callable[..., LiveConfig[Config]]]:
    made: list[LiveConfig[Config]] = []

    def make(**settings: Any) -> LiveConfig[Config]:
        live = LiveConfig(
            Config,
            source=GitSource(url=str(repo.remote_path)),
            trusted_root=repo.trusted_root,
            service="checkout",
            env="prod",
            home=tmp_path / "home",
            poll_interval_s=settings.pop("poll_interval_s", 0.2),
            secrets=SecretSources(folders=(tmp_path / "run",), plugins=settings.pop("plugins", {})),
            **settings,
        )
        made.append(live)
        return live

    (tmp_path / "run").mkdir()
    yield make
    for live in made:
        live.stop()


def everything_written(path: Path) -> bytes:
    return b"\n".join(file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file())


def test_the_plaintext_is_nowhere_but_in_the_field(
    repo: ConfigRepo, make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    mine = AgeKey()
    monkeypatch.setenv("SOPS_AGE_KEY", mine.secret)
    monkeypatch.setenv("CHECKOUT_TOKEN", f"{PLAIN} env")
    (tmp_path / "run/peer").write_text(f"{PLAIN} file")
    document = as_yaml(encrypted({"database": {"password": PLAIN}}, mine, only=is_secret))
    repo.publish({"config/checkout/base.yaml": document})
    first = f"token: !secret env:CHECKOUT_TOKEN\npeers: {{one: !secret file:{tmp_path}/run/peer}}\n"
    repo.publish({PROD: first})
    live = make()
    vetoes: list[bool] = []

    @live.prepare
    def veto(_: Snapshot[Config] | None, new: Snapshot[Config]) -> None:
        if vetoes and new.config.token is not None:
            raise RuntimeError(f"cannot log in with {new.config.token.get_secret_value()}")

    @live.on_change()
    def fails(_: Snapshot[Config], new: Snapshot[Config]) -> None:
        raise RuntimeError(f"cannot log in with {new.config.database.password.get_secret_value()}")

    config = live.current.config
    assert config.database.password.get_secret_value() == PLAIN
    assert config.peers["one"].get_secret_value() == f"{PLAIN} file"
    live.wait_for(repo.publish({PROD: first + "number: 3\n"}))
    vetoes.append(True)
    repo.publish({PROD: first + "number: 4\n"})
    eventually(lambda: live.status.condition is Condition.REFUSED)
    veto_said = [str(refusal) for refusal in live.status.refusals]
    vetoes.clear()
    for bad in ("name: !secret env:CHECKOUT_TOKEN\n", "number: !secret env:CHECKOUT_TOKEN\n", "token: !secret env:NONE\n"):
        commit = repo.publish({PROD: bad})
        eventually(lambda commit=commit: commit in {r.commit for r in live.status.refusals})
    live.wait_for(repo.publish({PROD: first}))
    shown = [repr(live), repr(live.current), repr(live.status), json.dumps(live.status.as_dict()), *veto_said]
    shown += [str(live.current.explain(key)) for key in ("token", "database.password", "peers.one")]
    live.stop()
    assert "veto refused it: RuntimeError" in "\n".join(veto_said)
    assert "on_change callback" in caplog.text
    haystack = "\n".join([*shown, caplog.text]).encode() + everything_written(tmp_path / "home") + everything_written(repo.path)
    assert PLAIN.encode() not in haystack
    assert mine.secret.encode() not in haystack


def test_a_rotated_file_is_taken_over_without_a_commit(repo: ConfigRepo, make: Make, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for version in ("..1", "..2"):
        (run / version).mkdir()
        (run / version / "token").write_text(f"{PLAIN} {version}")
    (run / "..data").symlink_to("..1")
    (run / "token").symlink_to("..data/token")  # as Kubernetes mounts a Secret
    repo.publish({PROD: f"token: !secret file:{run}/token\n"})
    live = make(poll_interval_s=300.0)
    seen: list[str] = []

    @live.on_change("token")
    def rotated(_: Snapshot[Config], new: Snapshot[Config]) -> None:
        seen.append(new.config.token.get_secret_value() if new.config.token else "")

    before = live.current
    (run / "..new").symlink_to("..2")
    (run / "..new").rename(run / "..data")
    eventually(lambda: seen == [f"{PLAIN} ..2"], state=lambda: live.status)
    assert live.current.revision == before.revision
    (run / "token").unlink()
    eventually(lambda: any("token: the file" in note for note in live.status.drift), state=lambda: live.status)
    assert live.current.config.token == SecretStr(f"{PLAIN} ..2")
    assert live.status.condition is Condition.READY
    (run / "token").write_text("\n")
    eventually(lambda: any("token is empty" in note for note in live.status.drift), state=lambda: live.status)
    assert live.current.config.token == SecretStr(f"{PLAIN} ..2")
    (run / "token").write_text(f"{PLAIN} 3")
    eventually(lambda: seen[-1] == f"{PLAIN} 3", state=lambda: live.status)
    eventually(lambda: live.status.drift == (), state=lambda: live.status)  # the note goes after the callbacks


def test_a_revision_refused_for_want_of_a_file_is_taken_when_the_file_comes(repo: ConfigRepo, make: Make, tmp_path: Path) -> None:
    live = make(poll_interval_s=0.2)
    _ = live.current
    commit = repo.publish({PROD: f"token: !secret file:{tmp_path}/run/late\n"})
    eventually(lambda: live.status.condition is Condition.REFUSED)
    (tmp_path / "run/late").write_text("")  # as somebody begins to write it
    eventually(lambda: "late is empty" in str(live.status.refusals), state=lambda: live.status)
    (tmp_path / "run/late").write_text(PLAIN)
    assert live.wait_for(commit).config.token == SecretStr(PLAIN)


def test_a_plug_in_that_comes_back_heals_without_a_commit(repo: ConfigRepo, make: Make) -> None:
    down = [True]

    def vault(name: str) -> str:
        if down:
            raise ConnectionError(PLAIN)
        return f"{PLAIN} {name}"

    live = make(plugins={"vault": vault})
    _ = live.current
    commit = repo.publish({PROD: "token: !secret vault:t\n"})
    eventually(lambda: "ConnectionError" in live.status.reason, state=lambda: live.status)
    assert live.status.condition is Condition.READY
    down.clear()
    assert live.wait_for(commit).config.token == SecretStr(f"{PLAIN} t")
