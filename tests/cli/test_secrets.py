"""`livecfg secrets check`, and what the other verbs show where the configuration refers to a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
