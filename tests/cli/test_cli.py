"""The command over real repositories; what it makes, plain git calls good."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version

import pytest

from livecfg.cli.codes import CODES
from livecfg.refusal import Code
from tests.cli.desk import PROD, ROOT, Desk


def test_init_makes_a_repository_whose_first_commit_plain_git_calls_good(desk: Desk) -> None:
    assert 'Good "git" signature for ana@acme' in desk.git("log", "--show-signature")
    assert desk.git("status", "--short") == ""
    assert "error" not in desk.git("fsck", "--strict")
    assert desk.run("check").startswith("ok")
    assert desk.run("verify").startswith("ok: 1 commits")


def test_init_writes_schemas_that_editors_find(desk: Desk) -> None:
    for name, schema in (("livecfg.yaml", "schemas/livecfg.json"), (".livecfg/policy.yaml", "schemas/policy.json")):
        first = (desk.conf / name).read_text().split("\n")[0]
        assert first.startswith("# yaml-language-server: $schema=")
        assert ((desk.conf / name).parent / first.partition("=")[2]).resolve() == (desk.conf / schema).resolve()
        assert json.loads((desk.conf / schema).read_text())["type"] == "object"


def test_init_again_changes_nothing_and_says_so(desk: Desk) -> None:
    before = desk.git("rev-parse", "HEAD")
    assert "nothing was changed" in desk.run("init", "conf", at=desk.path)
    assert (desk.git("rev-parse", "HEAD"), desk.git("status", "--short")) == (before, "")


def test_set_edits_one_key_and_leaves_comments_and_order_alone(desk: Desk) -> None:
    desk.write(PROD, "# why\npayment:\n  retries: 3   # few\n  timeout_ms: 5  # short\nname: shop\n")
    desk.run("commit", "-m", "Add prod")
    desk.run("set", "payment.timeout_ms", "300")
    assert (desk.conf / PROD).read_text() == "# why\npayment:\n  retries: 3   # few\n  timeout_ms: 300  # short\nname: shop\n"
    assert desk.git("log", "-1", "--format=%G? %s").split() == ["G", "Set", "payment.timeout_ms", "to", "300", "in", PROD]
    assert desk.git("status", "--short") == ""
    assert desk.run("get", "payment.timeout_ms") == "300\n"
    assert "nothing was changed" in desk.run("set", "payment.timeout_ms", "300")


def test_set_for_one_environment_leaves_the_others_alone_and_makes_its_layer(desk: Desk) -> None:
    desk.write("config/checkout/base.yaml", "timeout_ms: 200\n")
    desk.run("commit", "-m", "Set it everywhere")
    desk.run("set", "timeout_ms", "300", "--service", "checkout", "--env", "prod")
    assert ((desk.conf / PROD).read_text(), (desk.conf / "config/checkout/base.yaml").read_text()) == (
        "timeout_ms: 300\n",
        "timeout_ms: 200\n",
    )
    desk.run("set", "timeout_ms", "5", "--service", "checkout", "--env", "dev")
    values = [desk.run("get", "timeout_ms", "--service", "checkout", "--env", env) for env in ("prod", "dev", "other")]
    assert values == ["300\n", "5\n", "200\n"]
    desk.run("set", "timeout_ms", "400", "--service", "checkout", "--env", "prod")
    assert (desk.conf / PROD).read_text() == "timeout_ms: 400\n"


def test_the_version_is_told_in_one_line(desk: Desk) -> None:
    assert desk.run("--version", at=desk.path) == f"livecfg {version('livecfg')}\n"


def test_set_with_a_model_refuses_what_does_not_fit_and_puts_the_file_back(desk: Desk) -> None:
    desk.write(PROD, "timeout_ms: 5\n")
    desk.run("commit", "-m", "Add prod")
    (desk.path / "settings.py").write_text("from pydantic import BaseModel\nclass Shop(BaseModel):\n    timeout_ms: int = 1\n")
    path = f"{ROOT}:{desk.path}"
    shown = desk.run("set", "timeout_ms", "fast", "--env", "prod", "--model", "settings:Shop", code=1, PYTHONPATH=path)
    assert f"{PROD}:1:13" in shown
    assert "LC202" in shown
    assert (desk.conf / PROD).read_text() == "timeout_ms: 5\n"


def test_check_names_every_fault_with_its_place_for_people_machines_and_github(desk: Desk) -> None:
    desk.write(PROD, "a: yes\n")
    desk.write("flags/checkout/f.yaml", "flags:\n  f: {state: ON}\n")
    text = desk.run("check", code=1)
    assert f"{PROD}:1:4" in text
    assert "LC212" in text
    assert "errors in" in text
    found = desk.json("check", code=1)
    assert {f["path"] for f in found["findings"]} == {PROD, "flags/checkout/f.yaml"}
    github = desk.run("check", "-o", "github", code=1)
    assert f"::error file={PROD},line=1,col=4,title=LC212::" in github


def test_commit_refuses_a_faulty_tree_and_commits_nothing(desk: Desk) -> None:
    before = desk.git("rev-parse", "HEAD")
    desk.write(PROD, "a: 1\na: 2\n")
    assert "LC211" in desk.run("commit", "-m", "Twice", code=1)
    assert desk.git("rev-parse", "HEAD") == before


def test_verify_finds_the_unsigned_commit_and_adopting_it_mends(desk: Desk) -> None:
    desk.write(PROD, "a: 1\n")
    desk.git("add", "-A")
    desk.git("-c", "commit.gpgsign=false", "-c", "user.name=x", "-c", "user.email=x@y", "commit", "-q", "-m", "by hand")
    bad = desk.git("rev-parse", "HEAD").strip()
    found = desk.json("verify", code=1)
    assert [(f["code"], f["commit"]) for f in found["findings"]] == [("LC301", bad)]
    desk.run("adopt", "HEAD")
    assert desk.run("verify", "HEAD~1..HEAD").startswith("ok")


def test_explain_says_where_a_value_comes_from(desk: Desk) -> None:
    desk.write("config/checkout/base.yaml", "timeout_ms: 1\n")
    desk.write(PROD, "timeout_ms: 5\n")
    desk.run("commit", "-m", "Raise it")
    data = desk.json("explain", "timeout_ms")["data"]
    assert (data["path"], data["line"], data["column"], data["value"]) == (PROD, 1, 13, 5)
    assert (data["signers"], data["subject"]) == (["ana@acme"], "Raise it")
    assert data["losers"] == ["config/checkout/base.yaml"]


def test_diff_and_log_speak_of_effective_values(desk: Desk) -> None:
    desk.write(PROD, "a: 1\n")
    desk.run("commit", "-m", "One")
    desk.write(PROD, "# reformatted\na:   2\n")
    row = {"service": "checkout", "env": "prod", "key": "a", "change": "changed", "old": 1, "new": 2}
    assert desk.json("diff", code=1)["data"] == [row]
    desk.run("commit", "-m", "Two")
    assert desk.run("diff", "HEAD") == ""
    assert [row["value"] for row in desk.json("log", "a")["data"]] == [2, 1]
    assert [row["signer"] for row in desk.json("log")["data"]] == ["ana@acme"] * 3


def test_keys_are_added_listed_and_revoked_as_signed_changes(desk: Desk) -> None:
    key = desk.path / "bo"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    desk.run("keys", "add", "bo@acme", f"{key}.pub")
    assert [row["person"] for row in desk.json("keys", "list")["data"]] == ["ana@acme", "bo@acme"]
    desk.write(PROD, "a: 1\n")
    desk.run("commit", "-m", "By Bo", "--key", str(key))
    assert desk.run("verify").startswith("ok")
    desk.run("keys", "revoke", "bo@acme")
    assert [row["person"] for row in desk.json("keys", "list")["data"]] == ["ana@acme"]
    assert "LC313" in desk.run("keys", "revoke", "ana@acme", code=1)  # would lock everybody out
    assert desk.git("status", "--short") == ""


def test_root_export_gives_the_file_that_init_wrote(desk: Desk) -> None:
    assert desk.run("root", "export") == (desk.path / "trusted_root.yaml").read_text()
    assert "payload_sha256" in desk.run("root", "export", "--anchor")


def test_flags_are_listed_and_evaluated(desk: Desk) -> None:
    rule = '{"if": [{"==": [{"var": "plan"}, "pro"]}, "on", "off"]}'
    flag = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off", "targeting": json.loads(rule)}
    desk.write("flags/checkout/f.json", json.dumps({"flags": {"f": flag}}))
    desk.write(PROD, "a: 1\n")
    desk.run("commit", "-m", "A flag")
    assert [row["key"] for row in desk.json("flags", "list")["data"]] == ["f"]
    data = desk.json("flags", "eval", "f", "--ctx", "plan=pro")["data"]
    assert (data["value"], data["variant"], data["reason"]) == (True, "on", "TARGETING_MATCH")
    assert desk.json("flags", "eval", "f")["data"]["value"] is False
    assert "targeting.if" in desk.run("flags", "eval", "f", "--why")


def test_every_code_is_explained() -> None:
    assert set(CODES) == set(Code)


def test_help_starts_without_the_heavy_libraries_and_names_every_verb() -> None:
    script = (
        "import sys\nfrom livecfg.cli import main\nsys.argv = ['livecfg', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules} & {'grpc', 'dulwich', 'cryptography', 'yaml', 'watchdog'}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip().endswith("[]")
    assert all(verb in done.stdout for verb in ("init", "check", "verify", "fleet", "explain"))


def test_a_mistyped_verb_is_guessed(desk: Desk) -> None:
    desk.run("chek", code=2)
    assert "Did you mean 'check'" in desk.talk


def test_outside_a_repository_the_command_says_what_to_do(desk: Desk) -> None:
    desk.run("log", at=desk.home, code=2)
    assert "livecfg init" in desk.talk


def test_nothing_is_signed_that_was_not_asked_for(desk: Desk) -> None:
    before = desk.git("rev-parse", "HEAD")
    desk.write(PROD, "a: 1\n")
    desk.git("add", "-A")
    assert "staged already" in (desk.run("set", "b", "2", "--file", PROD, code=3) + desk.talk)
    desk.run("adopt", "HEAD")
    assert desk.git("diff", "--name-only", before.strip(), "HEAD") == ""


def test_set_stays_inside_the_repository(desk: Desk) -> None:
    desk.run("set", "a", "1", "--service", "checkout", "--env", "prod", "--file", "../x.yaml", code=2)
    assert "outside of the repository" in desk.talk
    assert not (desk.path / "x.yaml").exists()


def test_set_writes_no_file_that_no_layer_reads(desk: Desk) -> None:
    desk.write(PROD, "a: 1\n")
    desk.write("config/pay/prod.yaml", "a: 1\n")
    desk.run("commit", "-m", "Add prod")
    before = desk.state()
    layers = "config/_shared/base.yaml, config/checkout/base.yaml, config/checkout/prod.yaml"
    words = ("set", "a.b", "8", "--service", "checkout", "--env", "prod", "--file")
    for path in ("config/checkout/dve.yaml", "checkout/prod.yaml", "config/pay/prod.yaml", "livecfg.yaml"):
        desk.run(*words, path, code=2)
        assert (
            f"--file {path}: no layer of checkout/prod, so that no application would read it; its layers: {layers}" in desk.talk
        )
    desk.run("set", "a", "8", "--file", "config/checkout/dve.yaml", code=2)
    assert "no layer of checkout/prod, pay/prod, so" in desk.talk
    desk.run("set", "a", "8", "--env", "prod", "--file", "checkout/dve.yaml", at=desk.conf / "config", code=2)
    assert desk.state() == before


def test_set_takes_a_path_from_the_current_folder_as_git_does_or_from_the_root(desk: Desk) -> None:
    desk.write(PROD, "a: 1\n")
    desk.run("commit", "-m", "Add prod")
    for value, path in enumerate(("checkout/prod.yaml", PROD, str(desk.conf / PROD)), 2):
        desk.run("set", "a", str(value), "--file", path, at=desk.conf / "config")
        assert (desk.conf / PROD).read_text() == f"a: {value}\n"
    desk.run(
        "set",
        "a",
        "8",
        "--file",
        "../../config/checkout/dev.yaml",
        "--service",
        "checkout",
        "--env",
        "dev",
        at=(desk.conf / PROD).parent,
    )
    assert desk.git("ls-files", "*.yaml").split().count("config/checkout/dev.yaml") == 1


def test_set_finds_the_layers_of_regions_by_their_path(desk: Desk) -> None:
    manifest = (desk.conf / "livecfg.yaml").read_text()
    desk.write(
        "livecfg.yaml",
        manifest.replace('{env}.yaml"\n', '{env}.yaml"\n  - "config/{service}/{env}-{region}.yaml"\n').replace(
            "{env}.yaml\n", '{env}.yaml\n  - "config/{service}/{env}-{region}.yaml"\n'
        ),
    )
    desk.run("commit", "-m", "Regions")
    desk.run("set", "a", "1", "--service", "checkout", "--env", "prod", "--file", "config/checkout/prod-eu.yaml")
    assert (desk.conf / "config/checkout/prod-eu.yaml").read_text() == "a: 1\n"
    desk.run("set", "a", "1", "--service", "checkout", "--env", "prod", "--file", "config/checkout/prd-eu.yaml", code=2)
    assert "config/checkout/prod-{region}.yaml" in desk.talk


def test_a_mistyped_environment_is_told_with_all_there_are(desk: Desk) -> None:
    desk.write(PROD, "timeout_ms: 1\n")
    desk.write("config/checkout/dev.yaml", "timeout_ms: 1\n")
    desk.run("commit", "-m", "Two environments")
    before = desk.state()
    for words in (("get", "timeout_ms", "--env", "prdo"), ("set", "timeout_ms", "3", "--env", "prdo")):
        desk.run(*words, code=2)
        assert "the layers have no file for the environment prdo; there are checkout/dev, checkout/prod" in desk.talk
        assert "for a new one give --service and --env" in desk.talk
    desk.run("get", "timeout_ms", "--service", "chekout", code=2)
    assert "the layers have no file for the service chekout; there are checkout/dev, checkout/prod" in desk.talk
    desk.run("get", "timeout_ms", code=2)
    assert "which service and env? give --service and --env (there are: checkout/dev, checkout/prod)" in desk.talk
    assert desk.state() == before


@pytest.mark.parametrize("verb", ["diff", "flags test", "flags stale"])
def test_verbs_that_look_at_some_processes_refuse_a_mistyped_scope(desk: Desk, verb: str) -> None:
    desk.write(PROD, "timeout_ms: 1\n")
    desk.write("flag_tests/a.yaml", "version: 1\nservice: checkout\nenv: prod\ntests: []\n")
    desk.run("commit", "-m", "One environment")
    desk.write(PROD, "timeout_ms: 2\n")
    words = verb.split()
    desk.run(*words, "--service", "chekout", code=2)
    assert "the layers have no file for chekout; services: checkout" in desk.talk
    if verb != "flags stale":
        desk.run(*words, "--env", "prdo", code=2)
        assert "the layers have no file for the environment prdo; envs: prod" in desk.talk


def test_diff_of_a_service_that_only_one_side_has_shows_it(desk: Desk) -> None:
    desk.write("config/new/dev.yaml", "a: 1\n")
    assert "new/dev  a: (not set) → 1" in desk.run("diff", "--service", "new", "--env", "dev", code=1)
    desk.run("commit", "-m", "A new service")
    assert "new/dev  a: 1 → (not set)" in desk.run("diff", "HEAD..HEAD~1", "--service", "new", code=1)


def test_flag_tests_of_a_service_without_any_are_not_ok(desk: Desk) -> None:
    desk.write("flag_tests/a.yaml", "version: 1\nservice: checkout\nenv: prod\ntests: []\n")
    desk.run("flags", "test", "--service", "other", "--env", "prod", code=1)
    assert "there are no tests of other/prod" in desk.talk


def test_what_json_has_no_number_for_is_written_as_text_and_no_change_of_its_own(desk: Desk) -> None:
    desk.write(PROD, "t: .nan\nall: [.inf, -.inf, 1.5]\n")
    desk.run("commit", "-m", "On purpose")
    desk.run("set", "u", "1e400", "--env", "prod", code=2)
    assert desk.json("get")["data"]["value"] == {"t": "NaN", "all": ["Infinity", "-Infinity", 1.5]}
    assert json.loads(desk.run("get")) == {"t": "NaN", "all": ["Infinity", "-Infinity", 1.5]}
    assert desk.run("get", "t") == "NaN\n"
    assert desk.run("diff") == ""
    desk.write(PROD, "t: NaN\nall: [.inf, -.inf, 1.5]\n")
    assert [(row["old"], row["new"]) for row in desk.json("diff", code=1)["data"]] == [("NaN", "NaN")]  # a number, then text
    desk.run("commit", "-m", "A text")
    assert len(desk.json("log", "t")["data"]) == 2


def test_checks_of_what_no_layer_has_a_file_for_are_not_ok(desk: Desk) -> None:
    for env in ("dev", "prod"):
        desk.write(f"config/checkout/{env}.yaml", "timeout_ms: 1\n")
    desk.run("commit", "-m", "Two environments")
    envs, services = "envs of the service: dev, prod", "services: checkout"
    for words, says in (
        (("check", "--env", "prdo"), "for the environment prdo; envs: dev, prod"),
        (("check", "--service", "checkout", "--env", "prdo"), f"for checkout/prdo; {envs}"),
        (("check", "--service", "zz"), f"for zz; {services}"),
        (("secrets", "check", "--env", "qq"), "for the environment qq; envs: dev, prod"),
    ):
        desk.run(*words, code=2)
        assert f"the layers have no file {says}" in desk.talk
    for verb in ("get", "check"):  # a service may have nothing but what is for all
        desk.run(verb, "--service", "zzz", "--env", "prod")
        assert f"the layers have no file for zzz; {services}" in desk.talk
    desk.run("check", "--service", "checkout", "--env", "prod")
    said = desk.run("set", "a", "1", "--service", "new", "--env", "prod")
    assert "config/new/prod.yaml: a = 1 (new is a new service: the layers have no file for new; services: checkout)" in said
    assert "is a new service" not in desk.run("set", "a", "2", "--service", "new", "--env", "prod")


def test_a_trusted_root_that_is_there_is_not_overwritten(desk: Desk) -> None:
    before = (desk.path / "trusted_root.yaml").read_text()
    desk.run("init", "other", "--person", "ana@acme", at=desk.path, code=2)
    assert (desk.path / "trusted_root.yaml").read_text() == before


def test_a_merge_in_progress_is_left_to_git(desk: Desk) -> None:
    head = desk.git("rev-parse", "HEAD")
    (desk.conf / ".git/MERGE_HEAD").write_text(head)
    desk.write(PROD, "a: 1\n")
    desk.run("commit", "-m", "x", code=3)
    assert desk.git("rev-parse", "HEAD") == head


def test_flags_are_simulated_over_many_units_and_exported_as_plain_flagd(desk: Desk) -> None:
    rule = {"fractional": [{"var": "user.id"}, ["on", 10], ["off", 90]]}
    flag = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off", "targeting": rule}
    desk.write("flags/checkout/f.json", json.dumps({"flags": {"f": flag}}))
    desk.write(PROD, "a: 1\n")
    desk.run("commit", "-m", "A flag")
    rows = desk.json("flags", "simulate", "f", "--units", "5000", "--unit", "user.id")["data"]
    units = {row["variant"]: row["units"] for row in rows}
    assert sum(units.values()) == 5000
    assert 400 < units["on"] < 600
    assert json.loads(desk.run("flags", "export", "--flagd"))["flags"] == {"f": flag}
