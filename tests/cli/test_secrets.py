"""`livecfg secrets check`, and what the other verbs show where the configuration refers to a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.desk import PROD
from tests.simulator.sops import AgeKey, as_yaml, encrypted

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.desk import Desk

PLAIN = "hunter2-correct-horse"
MODEL = """from pydantic import BaseModel, SecretStr


class Model(BaseModel):
    password: SecretStr = SecretStr("")
    token: SecretStr = SecretStr("")
    peers: dict[str, SecretStr] = {}
    timeout_ms: int = 1
"""


def test_every_reference_is_tried_here_and_no_value_is_shown(desk: Desk, tmp_path: Path) -> None:
    desk.write(PROD, f"password: !secret env:DB_PASSWORD\ntoken: !secret file:{tmp_path}/token\n")
    (tmp_path / "token").write_text(PLAIN)
    said = desk.run("secrets", "check", "--folder", str(tmp_path), DB_PASSWORD=PLAIN)
    assert "2 secrets resolve here" in said
    assert PLAIN not in said + desk.talk
    found = desk.json("secrets", "check", "--folder", str(tmp_path), code=1)["findings"]
    assert [(f["code"], f["path"], f["line"]) for f in found] == [("LC230", PROD, 1)]
    desk.write(PROD, "password: !secret vault:x\n")
    assert "no source of secrets is called 'vault'" in desk.run("secrets", "check", code=1)
    desk.run("secrets", "check", "--plugin", "vault")


def test_with_the_model_a_secret_in_plain_text_is_found(desk: Desk) -> None:
    (desk.conf / "app_model.py").write_text(MODEL)
    desk.write(PROD, f"password: {PLAIN}\npeers: {{a: {PLAIN}, b: !secret env:B}}\n")
    said = desk.run("secrets", "check", "--model", "app_model:Model", code=1, B=PLAIN)
    assert "config/checkout/prod.yaml:1:11  error LC230  password: a secret in plain text" in said
    assert "peers.a: a secret in plain text" in said
    assert "peers.b" not in said
    assert PLAIN not in said + desk.talk


def test_other_verbs_show_the_reference_and_tell_an_encrypted_value_from_another(desk: Desk) -> None:
    key = AgeKey()

    def write(number: int) -> None:
        desk.write("config/checkout/base.yaml", as_yaml(encrypted({"password": f"{PLAIN}{number}"}, key)))
        desk.write(PROD, f"token: !secret env:TOKEN_{number}\n")

    write(1)
    desk.run("commit", "-m", "Refer to secrets")
    assert desk.json("get", "token", "--env", "prod")["data"]["value"] == "!secret env:TOKEN_1"
    assert desk.json("explain", "password", "--env", "prod")["data"]["value"].startswith("encrypted ")
    write(2)
    shown = desk.run("diff", code=1)
    assert '"!secret env:TOKEN_1" → "!secret env:TOKEN_2"' in shown
    assert "password" in shown
    desk.run("check")
    for verb in (("diff",), ("get", "--env", "prod"), ("log", "password", "--env", "prod")):
        said = desk.run(*verb, code=1 if verb == ("diff",) else 0)
        assert PLAIN not in said + desk.talk


def test_set_writes_references_and_leaves_those_that_are_there(desk: Desk) -> None:
    desk.run("set", "password", "!secret env:DB_PASSWORD", "--env", "prod")
    desk.run("set", "timeout_ms", "7", "--env", "prod")
    desk.run("set", "old", "!unset", "--env", "prod")
    text = "".join(path.read_text() for path in sorted((desk.conf / "config").rglob("*.yaml")))
    assert "password: !secret env:DB_PASSWORD\n" in text
    assert "timeout_ms: 7\n" in text
    assert "old: !unset\n" in text


LAYER = f"timeout_ms: 5\npassword: {PLAIN}\npeers: [{PLAIN}, '', null]\n"
MAC = "the MAC does not match"
BARE = "it stands in plain text, where encrypted_regex says that it is encrypted"


def seal(desk: Desk, key: AgeKey, *words: str, text: str = LAYER) -> str:
    """Commit a layer whose secrets are encrypted; give its text."""
    desk.write(PROD, text)
    desk.run("secrets", "encrypt", PROD, "--age", str(key.recipient), "--encrypted-regex", "^(password|peers)$", *words)
    desk.run("commit", "-m", "Encrypt it")
    return (desk.conf / PROD).read_text()


@pytest.mark.parametrize("words", [("password", "new"), ("timeout_ms", "7"), ("sops", "--unset")])
def test_set_leaves_an_encrypted_layer_to_those_who_have_its_key(desk: Desk, words: tuple[str, ...]) -> None:
    seal(desk, AgeKey())
    before = desk.state()
    desk.run("set", *words, "--env", "prod", code=3)
    assert f"{PROD} is encrypted with SOPS: an edit without its key" in desk.talk
    assert f"livecfg secrets edit {PROD}" in desk.talk
    assert desk.state() == before


@pytest.mark.parametrize(
    ("old", "new", "found", "with_the_key"),
    [
        ("timeout_ms: 5", "timeout_ms: 7", (), MAC),
        ("password: ENC", "password: new  # ENC", (f"password: {BARE}",), f"password: {BARE}"),
        ("'', null]", "'', null, 7]", (f"peers.3: {BARE}",), f"peers.3: {BARE}"),
    ],
)
def test_check_finds_an_encrypted_layer_that_was_changed_by_hand(
    desk: Desk, old: str, new: str, found: tuple[str, ...], with_the_key: str
) -> None:
    key = AgeKey()
    text = seal(desk, key)
    assert old in text
    desk.run("check", SOPS_AGE_KEY=key.secret)
    desk.write(PROD, text.replace(old, new))
    said = desk.run("check", code=1 if found else 0)
    assert all(f"error LC230  {fault}" in said for fault in found), said
    said = desk.run("commit", "-m", "By hand", code=1, SOPS_AGE_KEY=key.secret)
    assert with_the_key in said
    assert key.secret not in said + desk.talk


def test_check_of_a_layer_for_others_asks_for_no_key(desk: Desk) -> None:
    seal(desk, AgeKey())
    desk.run("check", SOPS_AGE_KEY=AgeKey().secret)
    desk.run("check", SOPS_AGE_KEY_FILE="/none")


def test_check_lets_plain_values_change_where_the_mac_does_not_cover_them(desk: Desk) -> None:
    key = AgeKey()
    text = seal(desk, key, "--mac-only-encrypted")
    desk.write(PROD, text.replace("timeout_ms: 5", "timeout_ms: 7"))
    desk.run("check", SOPS_AGE_KEY=key.secret)
    desk.write(PROD, text.replace("password: ENC", "password: new  # ENC"))
    assert BARE in desk.run("check", code=1)


@pytest.mark.parametrize(
    "rule", ["encrypted_regex: '[[:alpha:]]'", "unencrypted_comment_regex: '^x'", "encrypted_regex: x\n    encrypted_suffix: _x"]
)
def test_check_leaves_rules_alone_that_livecfg_does_not_know(desk: Desk, rule: str) -> None:
    text = seal(desk, AgeKey()).replace("encrypted_regex: ^(password|peers)$", rule)
    assert rule in text
    desk.write(PROD, text.replace("password: ENC", "password: new  # ENC"))
    desk.run("check")


def _with_an_encrypted_base(desk: Desk) -> None:
    keys = AgeKey()
    document = encrypted({"db": {"password": "hunter2", "user": "shop"}, "ports": [1, 2]}, keys)
    desk.write("config/_shared/base.yaml", as_yaml(document))
    desk.write(PROD, "timeout_ms: 5\n")
    desk.run("commit", "-m", "A base layer for all that holds a password")


@pytest.mark.parametrize("words", [("db.password", "new"), ("db", "{password: new}"), ("db.password.old", "x"), ("ports", "[3]")])
@pytest.mark.parametrize("service", ["checkout", "brand-new"])
def test_set_writes_nothing_in_plain_text_that_another_layer_keeps_encrypted(
    desk: Desk, words: tuple[str, ...], service: str
) -> None:
    _with_an_encrypted_base(desk)
    before = desk.state()
    desk.run("set", *words, "--service", service, "--env", "prod", code=3)
    assert f"{words[0]} is encrypted with SOPS in config/_shared/base.yaml" in desk.talk
    assert "`livecfg secrets edit config/_shared/base.yaml`" in desk.talk
    assert desk.state() == before


def test_set_leaves_references_and_what_is_no_secret_alone_beside_an_encrypted_layer(desk: Desk) -> None:
    _with_an_encrypted_base(desk)
    for words in (("db.password", "!secret env:DB"), ("db.host", "h"), ("timeout_ms", "7")):
        desk.run("set", *words, "--service", "checkout", "--env", "prod")
    assert (desk.conf / PROD).read_text() == "timeout_ms: 7\ndb:\n  password: !secret env:DB\n  host: h\n"
