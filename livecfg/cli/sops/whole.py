"""Whether encrypted layers are what somebody with their key made of them: by the MAC where a key is here, else by their rule.

`livecfg check` asks it, on machines that have no key, too: there nothing else would tell a commit that every application refuses,
or that holds a secret in plain text, from a good one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from livecfg.cli.output import CommandError
from livecfg.cli.sops.files import age_keys, plain_value
from livecfg.cli.sops.rule import Rule, rule_of
from livecfg.document import Tagged, read
from livecfg.errors import RefusedError
from livecfg.layers import TAGS
from livecfg.refusal import Code
from livecfg.sops import VALUE, Opening, data_key, is_encrypted, metadata_of, plain_part

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic import SecretStr

    from livecfg.document import Document, Loc
    from livecfg.layers import Process
    from livecfg.refusal import Refusal
    from livecfg.revision import Objects


def broken_layers(objects: Objects, tree: str, processes: Iterable[Process]) -> Iterator[Refusal]:
    """Give what is wrong with the encrypted layers of these processes, each layer once."""
    keys: tuple[SecretStr, ...] | None = None
    for document in _encrypted_layers(objects, tree, processes):
        keys = _keys_here() if keys is None else keys
        yield from [*_in_plain_text(document)] or _changed(document, keys)


def _encrypted_layers(objects: Objects, tree: str, processes: Iterable[Process]) -> Iterator[Document]:
    from livecfg.cli.effective import manifest_of
    from livecfg.trust.tree import lookup

    layers = manifest_of(objects, tree).layers
    for path in dict.fromkeys(path for process in processes for template in layers if (path := process.expand(template))):
        entry = lookup(objects, tree, path)
        data = objects.read(entry.id, "blob") if entry is not None and not entry.is_tree else b""
        if b"sops" not in data:  # most layers: not read a second time
            continue
        try:
            document = read(data, path, tags=TAGS)
        except RefusedError:
            continue  # the loader has told of it
        if is_encrypted(document.value):
            yield document


def _keys_here() -> tuple[SecretStr, ...]:
    """The age keys of this machine; none where they cannot be read: `secrets check` asks for them, this looks at the files."""
    try:
        return age_keys(os.environ)
    except CommandError:
        return ()


def _changed(document: Document, keys: tuple[SecretStr, ...]) -> tuple[Refusal, ...]:
    """What the MAC says, where one of the keys opens the document."""
    try:
        metadata = metadata_of(document)
    except RefusedError as error:
        return error.refusals
    try:
        key = data_key(document, metadata, keys)
    except RefusedError:
        return ()  # it is for others
    try:
        Opening(document, metadata, key, plain_value).run()
    except RefusedError as error:
        return error.refusals
    return ()


def _in_plain_text(document: Document) -> Iterator[Refusal]:
    """Every value that the document's own rule encrypts, and that is not."""
    part = document.value["sops"]
    if part.get("encrypted_comment_regex") or part.get("unencrypted_comment_regex"):
        return  # by comments, which are not read here
    try:
        rule = rule_of(part, mac_only_encrypted=False) or Rule()
    except CommandError:
        return  # a rule that only the sops program understands
    advice = f"restore the file from Git, then `livecfg secrets edit {document.path}`; if it was pushed, change the secret itself"
    for loc, keys, value in _leaves(plain_part(document), (), ()):
        if rule.covers(keys) and not (isinstance(value, str) and VALUE.fullmatch(value)):
            dotted = ".".join(map(str, loc))
            message = f"{dotted}: it stands in plain text, where {rule.kind} says that it is encrypted"
            yield document.refusal(Code.SECRET, loc, message, advice=advice)


def _leaves(value: Any, loc: Loc, keys: tuple[str, ...]) -> Iterator[tuple[Loc, tuple[str, ...], Any]]:
    """Every value that has something to encrypt, with its place and the keys above it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*loc, key), (*keys, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*loc, index), keys)
    elif value not in (None, "") and not isinstance(value, Tagged):  # a reference is no secret
        yield loc, keys, value
