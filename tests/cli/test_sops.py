"""Sealing and opening documents: what livecfg encrypts, it and the real `sops` program open to the same."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from livecfg.cli.sops.files import plain_value
from livecfg.cli.sops.rule import Rule
from livecfg.cli.sops.sealing import Sealer, about
from livecfg.cli.sops.text import seal, unseal
from livecfg.document import read
from livecfg.errors import RefusedError
from livecfg.layers import TAGS
from livecfg.sops import Opening, metadata_of
from tests.simulator.sops import AgeKey, sops

if TYPE_CHECKING:
    from pathlib import Path

ANA = AgeKey()
KEY = os.urandom(32)
EVERYTHING = Rule()
PASSWORDS = Rule("encrypted_regex", "^pass")

_texts = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t"), max_size=30)
_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 53), 1 << 53),
    st.floats(-1e15, 1e15),
    _texts,
    st.sampled_from(
        ["2026-11-26", "1_000", "0b1", "0o7", "yes", "null", "~", "#x", "a: b", "- a", "|", "1e3", " x ", "x\n", "\nx", "'"]
    ),
)
_keys = st.one_of(st.sampled_from(["a", "password", "x_unencrypted", "true", "1", "a b", "y", "null", "2026-11-26", "-"]), _texts)
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=3), max_leaves=8
)
documents = st.dictionaries(_keys.filter(lambda key: key not in {"sops", "<<"}), _values, min_size=1, max_size=4)
kinds = st.sampled_from(["yaml", "flow.yaml", "json"])
quick = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def written(value: Any, kind: str) -> str:
    if kind == "json":
        return json.dumps(value, ensure_ascii=False)
    return yaml.safe_dump(value, allow_unicode=True, sort_keys=False, default_flow_style=kind == "flow.yaml")


def sealed(text: str, name: str, rule: Rule, key: bytes = KEY) -> str:
    sealer = Sealer(key, rule)
    part = about(key, [str(ANA.recipient)], rule)
    return seal(read(text.encode(), name, tags=TAGS), sealer, lambda: sealer.finish(part, 1_790_000_000))


def opened(text: str, name: str, key: bytes = KEY) -> tuple[str, Any]:
    document = read(text.encode(), name, tags=TAGS)
    opening = Opening(document, metadata_of(document), key, plain_value)
    value = opening.run()
    return unseal(document, opening, value), value


def readable(text: str, name: str) -> Any:
    """The value, where the strict reader takes the text at all."""
    try:
        return read(text.encode(), name, tags=TAGS).value
    except RefusedError:
        return None


def typed(value: Any) -> Any:
    """A value that tells 1 from 1.0 and True."""
    if isinstance(value, dict):
        return {key: typed(inner) for key, inner in value.items()}
    return [typed(inner) for inner in value] if isinstance(value, list) else (type(value), value)


@quick
@given(documents, kinds, st.sampled_from([EVERYTHING, PASSWORDS, Rule("encrypted_regex", "^pass", mac_only_encrypted=True)]))
def test_what_is_sealed_opens_to_the_same_and_to_a_text_that_says_the_same(value: Any, kind: str, rule: Rule) -> None:
    name = f"prod.{kind}"
    text = written(value, kind)
    meant = readable(text, name)
    if meant is None:
        return
    cipher = sealed(text, name, rule)
    plain, same = opened(cipher, name)
    assert typed(same) == typed(meant)
    assert typed(read(plain.encode(), name, tags=TAGS).value) == typed(meant)


@settings(quick, max_examples=int(os.environ.get("SOPS_EXAMPLES", "12")))
@given(value=documents, kind=kinds, rule=st.sampled_from([EVERYTHING, PASSWORDS]))
def test_the_real_sops_opens_what_is_sealed(value: Any, kind: str, rule: Rule, tmp_path: Path) -> None:
    name = f"prod.{kind}"
    text = written(value, kind)
    meant = readable(text, name)
    if meant is None:
        return
    (tmp_path / name).write_text(sealed(text, name, rule))
    assert json.loads(sops("decrypt", "--output-type", "json", name, at=tmp_path, keys=ANA.secret)) == meant
