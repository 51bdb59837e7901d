"""`livecfg check` over repositories whose files name more than service and env."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cli.desk import PROD, Desk

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = """version: 1
layers:
  - "config/{service}/base.yaml"
  - "config/{service}/{env}.yaml"
  - "config/_regions/{region}.yaml"
  - "config/{service}/{env}/{region}/{instance}.yaml"
  - "config/_tiers/{label:tier}.yaml"
flags: ["flags/{region}/**"]
"""


def _desk(tmp_path: Path, **files: str) -> Desk:
    desk = Desk(tmp_path)
    desk.conf.mkdir()
    desk.write("livecfg.yaml", MANIFEST)
    desk.write("config/checkout/base.yaml", "retries: 3\n")
    desk.write(PROD, "timeout_ms: 5\n")
    for name, text in files.items():
        desk.write(name, text)
    return desk


def _found(desk: Desk, *words: str) -> list[str]:
    findings = desk.json("check", *words, code=1)["findings"]
    return [f"{row['path']}:{row['line']}" for row in findings if not row["path"].startswith(".livecfg")]


def test_check_reads_the_files_of_every_region_instance_and_label(tmp_path: Path) -> None:
    broken = ["config/_regions/eu.yaml", "config/checkout/prod/eu/i-1.b.yaml", "config/_tiers/gold.yaml", "flags/eu/f.yaml"]
    desk = _desk(tmp_path, **dict.fromkeys(broken, "a: 1\na: 2\n"))
    assert sorted(_found(desk)) == sorted(f"{path}:2" for path in broken)


def test_check_holds_the_model_against_what_regions_and_labels_come_to_together(tmp_path: Path) -> None:
    desk = _desk(tmp_path, **{"config/_regions/eu.yaml": "low: 5\n", "config/_tiers/gold.yaml": "high: 4\n"})
    model = """from pydantic import BaseModel, model_validator

class Model(BaseModel):
    retries: int
    timeout_ms: int
    low: int = 0
    high: int = 9

    @model_validator(mode="after")
    def ordered(self) -> "Model":
        if self.low > self.high:
            raise ValueError("low is over high")
        return self
"""
    desk.write("model.py", model)
    found = desk.json("check", "--model", "model:Model", code=1)
    assert [row["message"] for row in found["findings"] if "low is over high" in row["message"]] != []
    assert found["data"]["scopes"] == [
        "checkout/prod",
        "checkout/prod label:tier=gold",
        "checkout/prod region=eu",
        "checkout/prod region=eu label:tier=gold",
    ]


def test_check_reads_every_file_once_where_the_combinations_are_too_many(tmp_path: Path) -> None:
    files = {f"config/_regions/r{i}.yaml": "a: 1\n" for i in range(30)} | {
        f"config/_tiers/t{i}.yaml": "b: 1\n" for i in range(30)
    }
    desk = _desk(tmp_path, **files | {"config/_tiers/t29.yaml": "b: 1\nb: 2\n"})
    assert _found(desk) == ["config/_tiers/t29.yaml:2"]
    assert len(desk.json("check", code=1)["data"]["scopes"]) == 61
