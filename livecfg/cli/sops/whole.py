"""Whether encrypted layers are what somebody with their key made of them: by the MAC where a key is here, else by their rule.

And whether a value that is about to be written in plain text is one that another layer keeps encrypted.

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


def holder_of(objects: Objects, tree: str, layer: str, wanted: dict[str, Any], asked: Iterable[Process]) -> str:
    """Give the layer, of those that some process reads together with `layer`, that keeps a value of `wanted` encrypted; else "".

    `asked`: processes that may be new, besides those that have a file. What only running processes know may be anything.
    """
    from livecfg.cli.effective import is_one_of, layers_of, processes_in
    from livecfg.trust.tree import walk

    groups = [layers_of(objects, tree, process) for process in (*processes_in(objects, tree), *asked)]
    beside = {template: None for group in groups if is_one_of(layer, group) for template in group}
    for path, entry in walk(objects, tree) if beside else ():
        if path != layer and is_one_of(path, list(beside)):
            document = _encrypted(path, objects.read(entry.id, "blob"))
            if document is not None and _is_kept(plain_part(document), wanted):
                return path
    return ""


def _is_kept(value: Any, wanted: Any) -> bool:
    """Whether something of `wanted` that is no reference stands where `value` has ciphertext."""
    if isinstance(value, dict) and isinstance(wanted, dict):
        return any(_is_kept(value[key], inner) for key, inner in wanted.items() if key in value)
    if wanted in (None, "", {}, []) or isinstance(wanted, Tagged):
        return False
    return any(isinstance(leaf, str) and VALUE.fullmatch(leaf) is not None for _, _, leaf in _leaves(value, (), ()))


def _encrypted_layers(objects: Objects, tree: str, processes: Iterable[Process]) -> Iterator[Document]:
    from livecfg.cli.effective import manifest_of
    from livecfg.trust.tree import lookup

    layers = manifest_of(objects, tree).layers
    for path in dict.fromkeys(path for process in processes for template in layers if (path := process.expand(template))):
        entry = lookup(objects, tree, path)
        if entry is not None and not entry.is_tree and (document := _encrypted(path, objects.read(entry.id, "blob"))):
            yield document


def _encrypted(path: str, data: bytes) -> Document | None:
    """Give the document where it is one that SOPS made; the loader tells of what cannot be read."""
    if b"sops" not in data:  # most layers: not read a second time
        return None
    try:
        document = read(data, path, tags=TAGS)
    except RefusedError:
        return None
    return document if is_encrypted(document.value) else None


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
