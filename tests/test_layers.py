"""Layers, manifest and validation: precedence, origins, and faults that point at the right file."""

from __future__ import annotations

from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from livecfg.document import Document, read
from livecfg.errors import RefusedError
from livecfg.layers import Manifest, Merged, Process, ScopeLimits, merge
from livecfg.refusal import Code
from livecfg.validation import validate, validate_value

TAGS = frozenset({"!unset"})


def layer(path: str, text: str) -> Document:
    return read(text.encode(), path, tags=TAGS)


class Payment(BaseModel, frozen=True):
    timeout_ms: int = Field(200, ge=50)
    retries: int = 3


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class Shop(BaseModel, frozen=True):
    payment: Payment = Payment()
    hosts: list[Payment] = []
    by_name: dict[str, Payment] = {}
    password: SecretStr | None = None
    extras: Open = Open()
    name: str


def check(*layers: Document) -> Shop:
    merged = merge(layers)
    return validate_value(Shop, merged.value, merged.locate)


def faults(*layers: Document) -> list[str]:
    with pytest.raises(RefusedError) as caught:
        check(*layers)
    return [str(refusal) for refusal in caught.value.refusals]


def test_the_later_layer_wins_mappings_merge_and_lists_replace() -> None:
    merged = merge([layer("a.yaml", "{x: {a: 1, b: 2}, y: [1, 2]}"), layer("b.yaml", "{x: {b: 3}, y: [4]}")])
    assert merged.value == {"x": {"a": 1, "b": 3}, "y": [4]}


def test_unset_removes_what_a_layer_below_set() -> None:
    merged = merge([layer("a.yaml", "{x: {a: 1, b: 2}, y: 1}"), layer("b.yaml", "x:\n  b: !unset\ny: !unset\n")])
    assert merged.value == {"x": {"a": 1}}


def test_a_value_is_located_in_the_layer_that_won() -> None:
    merged: Merged = merge([layer("a.yaml", "x:\n  a: 1\n  b: 2\n"), layer("b.yaml", "x:\n  b: 3\n")])
    assert merged.locate(("x", "a")) == ("a.yaml", (2, 6))
    assert merged.locate(("x", "b")) == ("b.yaml", (2, 6))
    assert [d.path for d in merged.setters(("x", "b"))] == ["b.yaml", "a.yaml"]


def test_every_fault_is_reported_at_once_with_file_line_and_a_guess() -> None:
    base = layer("base.yaml", "name: shop\npayment:\n  timeout_ms: 5\n")
    prod = layer("prod.yaml", "payment:\n  retires: 3\n  retries: fast\n")
    assert faults(base, prod) == [
        "base.yaml:3:15 LC201 payment.timeout_ms: expected greater than or equal to 50",
        "prod.yaml:3:12 LC202 payment.retries: expected a valid integer, got a string",
        "prod.yaml:2:3 LC204 payment.retires is not a known key (did you mean 'retries'?)",
    ]


def test_faults_inside_lists_and_mappings_of_models_point_at_the_item() -> None:
    text = "name: shop\nhosts:\n  - timeout_ms: 60\n  - timeoutms: 60\nby_name:\n  x: {retries: []}\n"
    assert faults(layer("a.yaml", text)) == [
        "a.yaml:4:5 LC204 hosts[1].timeoutms is not a known key (did you mean 'timeout_ms'?)",
        "a.yaml:6:16 LC202 by_name.x.retries: expected a valid integer, got a list",
    ]


def test_a_missing_value_is_named() -> None:
    assert faults(layer("a.yaml", "payment: {}\n")) == [
        "a.yaml:1:1 LC203 name is missing and has no default (add it to one of the layers)"
    ]


def test_a_model_that_allows_extra_keys_gets_them_and_only_there() -> None:
    assert check(layer("a.yaml", "{name: x, extras: {anything: 1}}")).extras == Open.model_validate({"anything": 1})
    assert faults(layer("a.yaml", "{name: x, extras: {anything: 1}, nmae: z}"))[0].startswith("a.yaml:1:34 LC204 nmae")


def test_a_fault_never_shows_the_value() -> None:
    text = "name: x\npassword: [hunter2]\n"
    assert "hunter2" not in "".join(faults(layer("a.yaml", text)))


class Card(BaseModel, frozen=True):
    kind: Literal["card"]


class Bill(BaseModel, frozen=True):
    kind: Literal["bill"]


class Paid(BaseModel, frozen=True):
    by: Card | Bill = Field(discriminator="kind")


def test_a_fault_of_a_union_names_what_there_is_and_not_what_was_given() -> None:
    document = layer("a.yaml", "by: {kind: hunter2}\n")
    with pytest.raises(RefusedError) as caught:
        validate_value(Paid, document.value, merge([document]).locate)
    assert [str(r) for r in caught.value.refusals] == ["a.yaml:1:5 LC201 by: expected one of 'card', 'bill' at 'kind'"]


def manifest(text: str) -> Manifest:
    return validate(Manifest, layer("livecfg.yaml", text), Code.MANIFEST)


def test_templates_are_filled_from_the_process_and_dropped_without_a_value() -> None:
    process = Process("checkout", "prod", labels={"tier": "gold"})
    assert process.expand("config/{service}/{env}.yaml") == "config/checkout/prod.yaml"
    assert process.expand("config/{service}/labels/{label:tier}.yaml") == "config/checkout/labels/gold.yaml"
    assert process.expand("config/{region}.yaml") is None
    assert process.expand("config/{label:zone}.yaml") is None


@pytest.mark.parametrize("name", ["../etc", "a/b", "A", "", "a b", "-a"])
def test_a_name_that_could_leave_its_folder_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="expected a"):
        Process(name, "prod")
    with pytest.raises(ValueError, match="expected a"):
        Process("shop", "prod", labels={"tier": name})


@pytest.mark.parametrize(
    "text",
    [
        "version: 2\nlayers: [a.yaml]",
        "version: 1",
        "version: 1\nlayers: []",
        "version: 1\nlayers: [../a.yaml]",
        "version: 1\nlayers: [/a.yaml]",
        "version: 1\nlayers: ['{user}.yaml']",
        "version: 1\nlayers: [a.toml]",
        "version: 1\nlayers: ['a/*.yaml']",
        "version: 1\nlayers: [a.yaml]\nflags: ['**/x']",
        "version: 1\nlayers: [a.yaml]\nlimits: {file_bytes: 1 potato}",
        "version: 1\nlayers: [a.yaml]\nlayerz: []",
    ],
)
def test_a_manifest_that_means_nothing_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(RefusedError) as caught:
        manifest(text)
    assert all(r.path == "livecfg.yaml" and r.line >= 1 for r in caught.value.refusals)


def test_a_manifest_may_only_lower_the_limits_of_the_client() -> None:
    told = manifest("version: 1\nlayers: [a.yaml]\nlimits: {file_bytes: 1KiB, scope_files: 20000}").limits
    assert ScopeLimits().lowered_by(told) == ScopeLimits(file_bytes=1024, scope_files=10_000)
