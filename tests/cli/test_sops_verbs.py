"""`livecfg secrets encrypt|decrypt|edit|rotate`, as people call them, against the real `sops` program."""

from __future__ import annotations

import json
import os
import stat
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from livecfg.cli import main
from tests.cli.desk import PROD, Desk
from tests.simulator.sops import AgeKey, as_yaml, encrypted, sops

if TYPE_CHECKING:
    from pathlib import Path


PLAIN = "hunter2-correct-horse"
LAYER = f"""# the shop
name: shop   # shown to people

database:
  # from the vault
  password: {PLAIN}
  ports: [5432, 5433]
peers:
  one: "{PLAIN} one"
  two: |
    {PLAIN}
    two
token: !secret env:TOKEN
"""
ONLY = "^(password|peers)$"
ANA, BO = AgeKey(), AgeKey()


class Here(Desk):
    """A plain clone, since these verbs ask nothing of a policy; and the command runs in this process, many times as fast."""

    capture: Any = None

    def run(self, *words: str, at: Path | None = None, code: int = 0, **environ: str) -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(at or self.conf)
            patch.setattr(sys, "argv", ["livecfg", *words])
            patch.setattr(os, "environ", self.environ | environ)
            with pytest.raises(SystemExit) as ended:
                main()
        said = self.capture.readouterr()
        assert ended.value.code == code, said.out + said.err
        self.talk = said.err
        return str(said.out)


@pytest.fixture
def desk(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Here:
    desk = Here(tmp_path)
    desk.conf.mkdir()
    desk.capture = capfd
    desk.git("init", "-q")
    return desk


def encrypt(desk: Desk, *words: str, name: str = PROD, text: str = LAYER) -> str:
    desk.write(name, text)
    desk.run("secrets", "encrypt", name, "--age", str(ANA.recipient), "--encrypted-regex", ONLY, *words)
    return (desk.conf / name).read_text()


def open_(desk: Desk, *words: str, key: AgeKey = ANA, code: int = 0) -> str:
    return desk.run("secrets", "decrypt", *(words or (PROD,)), code=code, SOPS_AGE_KEY=key.secret)


def editor(desk: Desk, script: str) -> str:
    path = desk.path / "editor.sh"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return str(path)


def test_a_layer_is_encrypted_in_its_place_and_printed_as_it_was(desk: Desk) -> None:
    desk.write(PROD, LAYER)
    (desk.conf / PROD).chmod(0o640)
    said = desk.run("secrets", "encrypt", PROD, "--age", str(ANA.recipient), "--encrypted-regex", ONLY)
    assert said == f"ok: {PROD}: 3 values encrypted for 1 recipient\n"
    text = (desk.conf / PROD).read_text()
    assert PLAIN not in text
    assert stat.S_IMODE((desk.conf / PROD).stat().st_mode) == 0o640
    assert text.startswith(
        "# the shop\nname: shop   # shown to people\n\ndatabase:\n  # from the vault\n  password: ENC[AES256_GCM,"
    )
    assert "\n  ports: [5432, 5433]\npeers:\n  one: ENC[" in text
    assert open_(desk) == LAYER.replace('"', "")
    value = json.loads(open_(desk, PROD, "-o", "json"))["data"]["value"]
    assert value["peers"] == {"one": f"{PLAIN} one", "two": f"{PLAIN}\ntwo\n"}
    assert value["token"] == "!secret env:TOKEN"
    real = yaml.safe_load(sops("decrypt", PROD, at=desk.conf, keys=ANA.secret))
    assert (real["database"], real["peers"]) == ({"password": PLAIN, "ports": [5432, 5433]}, value["peers"])
    assert [path for path in desk.conf.rglob("*") if PLAIN.encode() in (path.read_bytes() if path.is_file() else b"")] == []


def test_what_is_encrypted_already_or_was_committed_in_plain_text_is_told(desk: Desk) -> None:
    desk.write(PROD, LAYER)
    desk.git("add", PROD)
    text = encrypt(desk)
    assert f"{PROD}: Git knows it in plain text" in desk.talk
    desk.run("secrets", "encrypt", PROD, "--age", str(ANA.recipient), code=1)
    assert "is encrypted already" in desk.talk
    assert (desk.conf / PROD).read_text() == text
    desk.write(PROD, LAYER)
    desk.run("secrets", "decrypt", PROD, code=1)
    assert "is not encrypted: livecfg secrets encrypt" in desk.talk


def test_creation_rules_say_for_whom_and_what(desk: Desk) -> None:
    rules = f"""
people:
  - &ana {ANA.recipient}
  - &bo {BO.recipient}
creation_rules:
  - path_regex: ^config/checkout/prod\\.yaml$
    encrypted_regex: "{ONLY}"
    mac_only_encrypted: true
    key_groups: [{{age: [*ana, *bo]}}]
  - path_regex: kms
    kms: arn:aws:kms:x
  - age: "{BO.recipient},"
"""
    desk.write(".sops.yaml", rules)
    desk.write(PROD, LAYER)
    desk.write("config/checkout/base.json", '{"password": "x", "number": 7, "list": [true, null, 1.5]}')
    rows = desk.json("secrets", "encrypt", PROD, "config/checkout/base.json")["data"]["files"]
    assert [(row["encrypted"], row["recipients"]) for row in rows] == [
        (3, [str(ANA.recipient), str(BO.recipient)]),
        (4, [str(BO.recipient)]),
    ]
    (desk.conf / PROD).write_text((desk.conf / PROD).read_text().replace("name: shop", "name: shops"))  # mac_only_encrypted
    for key in (ANA, BO):
        assert "name: shops" in open_(desk, key=key)
        assert "name: shops" in sops("decrypt", PROD, at=desk.conf, keys=key.secret)
    assert sops("decrypt", "config/checkout/base.json", at=desk.conf, keys=BO.secret)
    assert f"it is for {BO.recipient}" in (open_(desk, "config/checkout/base.json", code=1) or desk.talk)
    desk.write("config/kms.yaml", LAYER)
    desk.run("secrets", "encrypt", "config/kms.yaml", code=2)
    assert "creation rule 2: kms: Extra inputs are not permitted (livecfg encrypts for age recipients alone" in desk.talk


@pytest.mark.parametrize(
    ("words", "text", "code", "says"),
    [
        ((), LAYER, 2, "for whom? Give --age RECIPIENT"),
        (("--age", ANA.secret), LAYER, 2, "no age recipient that is served here"),
        (("--age", "age1x"), LAYER, 2, "'age1x' is no age recipient"),
        (("--age", str(ANA.recipient)), LAYER, 2, "token: a !secret reference cannot be encrypted"),
        (("--age", str(ANA.recipient), "--encrypted-regex", "^none$"), LAYER, 1, "no value stands below a key"),
        (("--age", str(ANA.recipient), "--encrypted-regex", r"\pL"), LAYER, 2, "means different things"),
        (("--age", str(ANA.recipient), "--encrypted-regex", "[[:alpha:]]"), LAYER, 2, "means different things"),
        (("--age", str(ANA.recipient), "--encrypted-regex", "a", "--encrypted-suffix", "b"), LAYER, 2, "say one of"),
        (("--age", str(ANA.recipient)), "sops: {}\n", 2, "the key `sops` at the top is taken"),
        (("--age", str(ANA.recipient)), "a: .inf\n", 2, "SOPS has no such number"),
        (("--age", str(ANA.recipient)), "a: 18446744073709551615\n", 2, "SOPS has no such number"),
        (("--age", str(ANA.recipient)), "- a\n", 2, "expected a mapping"),
        (("--age", str(ANA.recipient)), "a: 1\na: 2\n", 1, "the key 'a' stands twice"),
    ],
)
def test_what_cannot_be_encrypted_is_left_as_it_is_and_told(
    desk: Desk, words: tuple[str, ...], text: str, code: int, says: str
) -> None:
    desk.write(PROD, text)
    desk.run("secrets", "encrypt", PROD, *words, code=code)
    assert says in desk.talk
    assert ANA.secret not in desk.talk
    assert (desk.conf / PROD).read_text() == text


def test_plain_text_goes_to_the_standard_output_or_to_a_file_of_ones_own_outside_of_the_clone(desk: Desk, tmp_path: Path) -> None:
    text = encrypt(desk)
    open_(desk, PROD, "--to", "plain.yaml", code=3)
    assert "one `git add` away from the history" in desk.talk
    assert not (desk.conf / "plain.yaml").exists()
    target = tmp_path / "plain.yaml"
    assert open_(desk, PROD, "--to", str(target)) == ""
    assert (target.read_text(), stat.S_IMODE(target.stat().st_mode)) == (open_(desk), 0o600)
    open_(desk, PROD, "--to", str(target), code=2)
    assert "is there already" in desk.talk
    assert (desk.conf / PROD).read_text() == text


def test_keys_are_looked_for_where_the_sops_program_looks(desk: Desk) -> None:
    encrypt(desk)
    desk.run("secrets", "decrypt", PROD, code=1)
    assert f"no age key here opens it; it is for {ANA.recipient}" in desk.talk
    assert PLAIN in desk.run("secrets", "decrypt", PROD, SOPS_AGE_KEY=f"AGE-PLUGIN-YUBIKEY-1X\n{BO.secret}\n{ANA.secret}")
    own = desk.home / "sops/age/keys.txt"  # XDG_CONFIG_HOME of a desk
    own.parent.mkdir(parents=True)
    own.write_text(f"# created: today\n{ANA.secret}\n")
    assert PLAIN in desk.run("secrets", "decrypt", PROD)
    desk.run("secrets", "decrypt", PROD, code=2, SOPS_AGE_KEY_FILE="/none")
    assert "SOPS_AGE_KEY_FILE cannot be read" in desk.talk
    own.rename(desk.path / "keys.txt")
    assert PLAIN in desk.run("secrets", "decrypt", PROD, SOPS_AGE_KEY_FILE=str(desk.path / "keys.txt"))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("name: shop", "name: shops", "the MAC does not match"),
        ("  one: ENC", "  three: ENC", "peers.three: it cannot be decrypted"),
    ],
)
def test_a_document_that_was_changed_is_not_printed_edited_or_rotated(desk: Desk, old: str, new: str, says: str) -> None:
    text = encrypt(desk).replace(old, new)
    desk.write(PROD, text)
    for verb in ("decrypt", "edit", "rotate"):
        said = desk.run("secrets", verb, PROD, code=1, SOPS_AGE_KEY=ANA.secret, EDITOR="touch")
        assert says in desk.talk
        assert PLAIN not in said + desk.talk
    assert (desk.conf / PROD).read_text() == text


def test_an_edit_changes_the_ciphertext_of_what_was_changed_alone(desk: Desk) -> None:
    desk.write(PROD, LAYER.replace("token: !secret env:TOKEN\n", ""))
    (desk.conf / ".sops.yaml").write_text(f"creation_rules: [{{age: {ANA.recipient}}}]\n")
    (desk.conf / PROD).write_text(sops("encrypt", PROD, at=desk.conf))  # comments encrypted, too
    before = (desk.conf / PROD).read_text().splitlines()
    secret = {"SOPS_AGE_KEY": ANA.secret, "XDG_RUNTIME_DIR": str(desk.path)}
    script = f"stat -c %a $1 > {desk.path}/mode; sed -i 's/{PLAIN} one/another/; s/from the vault/from a safe/' $1"
    desk.run("secrets", "edit", PROD, EDITOR=editor(desk, script), **secret)
    after = (desk.conf / PROD).read_text().splitlines()
    text = sops("decrypt", PROD, at=desk.conf, keys=ANA.secret)
    assert "# from a safe" in text
    assert yaml.safe_load(text)["peers"]["one"] == "another"
    changed = [old for old, new in zip(before, after, strict=True) if old != new and "lastmodified" not in old]
    assert len(changed) == 3, after  # a comment, a value, the MAC
    assert (desk.path / "mode").read_text() == "600\n"
    assert not list(desk.path.glob("livecfg-*"))


@pytest.mark.parametrize(
    ("script", "code", "says"),
    [
        ("exit 3", 2, "ended with 3: nothing was changed"),
        ("true", 0, "nothing was changed"),
        ("echo 'a: [' > $1", 1, "not YAML"),
        ("echo 'sops: {}' > $1", 2, "none called `sops`"),
        (f"echo 'more: 1' >> CONF/{PROD}; echo 'peers: {{a: b}}' > $1", 3, "was changed by somebody else meanwhile"),
    ],
)
def test_an_edit_that_comes_to_nothing_leaves_nothing_behind(desk: Desk, script: str, code: int, says: str) -> None:
    text = encrypt(desk)
    secret = {"SOPS_AGE_KEY": ANA.secret, "XDG_RUNTIME_DIR": str(desk.path)}
    command = editor(desk, script.replace("CONF", str(desk.conf)))
    desk.run("--no-input", "secrets", "edit", PROD, code=code, EDITOR=command, **secret)
    assert says in desk.talk
    assert (desk.conf / PROD).read_text().removesuffix("more: 1\n") == text
    assert not list(desk.path.glob("livecfg-*"))
    assert [path.name for path in (desk.conf / PROD).parent.iterdir() if path.name.startswith(".")] == []


def test_an_interrupt_leaves_nothing_behind(desk: Desk) -> None:
    text = encrypt(desk)
    secret = {"SOPS_AGE_KEY": ANA.secret, "XDG_RUNTIME_DIR": str(desk.path)}
    command = editor(desk, "echo 'peers: {a: b}' > $1; kill -INT $PPID; sleep 10")
    Desk.run(desk, "secrets", "edit", PROD, code=130, EDITOR=command, **secret)  # a process of its own
    assert (desk.conf / PROD).read_text() == text
    assert not list(desk.path.glob("livecfg-*"))


def test_rotating_gives_a_new_key_to_those_who_should_have_it(desk: Desk) -> None:
    before = encrypt(desk, "--age", str(BO.recipient))
    desk.run("secrets", "rotate", PROD, SOPS_AGE_KEY=BO.secret)
    same = (desk.conf / PROD).read_text()
    assert not {line for line in before.splitlines() if "ENC[" in line} & {*same.splitlines()}
    assert PLAIN in open_(desk, key=BO)
    desk.write(".sops.yaml", f"creation_rules: [{{age: {ANA.recipient}, encrypted_regex: other}}]\n")
    desk.run("secrets", "rotate", PROD, SOPS_AGE_KEY=BO.secret)
    assert "1 recipients are gone" in desk.talk
    open_(desk, key=BO, code=1)
    assert open_(desk) == open_(desk)
    assert "encrypted_regex: ^(password|peers)$" in (desk.conf / PROD).read_text()  # the document's own
    assert PLAIN in sops("decrypt", PROD, at=desk.conf, keys=ANA.secret)


def test_keys_of_other_kinds_are_kept_by_an_edit_and_not_lost_by_a_rotation(desk: Desk) -> None:
    document: dict[str, Any] = encrypted({"password": PLAIN, "name": "x"}, ANA)
    document["sops"]["kms"] = [{"arn": "arn:aws:kms:x", "created_at": "2026-11-26T10:00:00Z", "enc": "AAAA", "aws_profile": ""}]
    desk.write(PROD, as_yaml(document))
    desk.run("secrets", "rotate", PROD, code=2, SOPS_AGE_KEY=ANA.secret)
    assert "it is for kms too" in desk.talk
    desk.run("secrets", "edit", PROD, SOPS_AGE_KEY=ANA.secret, EDITOR=editor(desk, "sed -i s/hunter2/fisher3/ $1"))
    after = yaml.safe_load((desk.conf / PROD).read_text())
    assert (after["sops"]["kms"], after["sops"]["age"]) == (document["sops"]["kms"], document["sops"]["age"])
    assert after["name"] == document["name"]
    assert "fisher3-correct-horse" in open_(desk)


def test_a_layer_that_livecfg_encrypted_serves_an_application(desk: Desk) -> None:
    Desk.run(desk, "init", "own", "--service", "checkout", "--person", "ana@acme", at=desk.path)
    desk.conf = desk.path / "own"
    model = "class Model(BaseModel, extra='allow'):\n    peers: dict[str, SecretStr]\n    password: SecretStr\n"
    (desk.conf / "app_model.py").write_text(f"from pydantic import BaseModel, SecretStr\n\n\n{model}")
    encrypt(desk, text=f"password: {PLAIN}\npeers:\n  # all\n  one: {PLAIN} one\n")
    keys = {"SOPS_AGE_KEY": ANA.secret}
    said = Desk.run(desk, "secrets", "check", "--model", "app_model:Model", "--env", "prod", **keys)
    assert "2 secrets resolve here" in said


def test_rotate_names_every_plain_file_and_rotates_none(desk: Desk) -> None:
    before = encrypt(desk)
    for name in ("a.yaml", "b.yaml"):
        desk.write(name, "x: 1\n")
    desk.run("secrets", "rotate", PROD, "a.yaml", "b.yaml", code=1, SOPS_AGE_KEY=ANA.secret)
    assert "not encrypted: a.yaml, b.yaml; nothing was rotated" in desk.talk
    assert (desk.conf / PROD).read_text() == before
