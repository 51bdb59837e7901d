"""Edit one key in the text of a YAML or JSON layer: the rest of the text, comments, order and line ends stay as they are.

Every edit of text is read again and compared with what was meant; where plain text surgery does not reach that, ruamel.yaml does.
A SOPS document is not edited here: its MAC goes over every value, and who has no key would put plain text beside the ciphertext.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from livecfg.cli.output import Exit, fail
from livecfg.document import Document, Tagged, read
from livecfg.layers import TAGS
from livecfg.sops import is_encrypted

if TYPE_CHECKING:
    from collections.abc import Callable

Loc = tuple[str, ...]
_GONE = object()


def set_in_text(text: str, key: str | Loc, value: str, path: str) -> str:
    """Give `text` with `key` (dotted, or its parts) set to `value`, a YAML scalar or flow value.

    Ends the command where the text is a SOPS document.

    Raises:
        RefusedError: the text or the value is malformed.

    """
    wanted = read(value.encode(), "value", tags=TAGS).value
    if not _is_finite(wanted):  # `.nan`, `1e400`: layers may hold them, but written by hand, knowing what a model makes of them
        dotted = key if isinstance(key, str) else ".".join(key)
        fail(f"{dotted}: expected finite numbers, which JSON and every language have; in quotes it is text")
    literal = value if not isinstance(wanted, str) or value.isalnum() else json.dumps(wanted, ensure_ascii=False)

    def edit(text: str, document: Document, loc: Loc) -> str:
        depth = _depth(document.value, loc)
        return _replace(text, loc, literal) if depth == len(loc) else _insert(document, text, loc, depth, literal)

    return _edit(text, key, path, wanted, edit)


def unset_in_text(text: str, key: str | Loc, path: str, *, opened: bool = False) -> str:
    """Give `text` without `key` (dotted, or its parts), and without the mappings that would be left empty.

    Ends the command where the text is a SOPS document, unless its values were `opened` and only its `sops` part is left.

    Raises:
        RefusedError: the text is malformed.

    """

    def edit(text: str, document: Document, loc: Loc) -> str:
        if _depth(document.value, loc) < len(loc):
            fail(f"{'.'.join(loc)} is not set in {path}", Exit.FINDINGS)
        return _remove(text, _prunable(document.value, loc))

    return _edit(text, key, path, _GONE, edit, opened=opened)


def _edit(
    text: str, key: str | Loc, path: str, wanted: Any, edit: Callable[[str, Document, Loc], str], *, opened: bool = False
) -> str:
    """Edit with line ends of one kind, see that the result means what was wanted, else edit the structure."""
    loc = tuple(key.split(".")) if isinstance(key, str) else key
    if not all(loc):
        fail(f"{key!r} is not a dotted key")
    carriage = text.count("\r\n") == text.count("\n") > 0
    text = text.replace("\r\n", "\n") if carriage else text
    document = read(text.encode(), path, tags=TAGS)
    if document.value is not None and not isinstance(document.value, dict):
        fail(f"{path}: expected a mapping at the top")
    if is_encrypted(document.value) and not opened:
        why = "an edit without its key would put plain text into it, or break its MAC"
        fail(f"{path} is encrypted with SOPS: {why}; nothing was changed: `livecfg secrets edit {path}`", Exit.REFUSED)
    meant = _merged(document.value, loc, wanted)
    if path.endswith(".json"):
        if isinstance(wanted, Tagged):
            fail(f"{path}: JSON has no tags: put {wanted.tag} into a YAML layer")
        edited = json.dumps(meant, indent=2, ensure_ascii=False) + "\n"
    else:
        edited = edit(text, document, loc)
        if not _means(edited, path, meant):
            if isinstance(wanted, Tagged):
                fail(f"{key}: write {wanted.tag} into {path} by hand: the place is no plain key of a mapping")
            edited = _structurally(text, loc, wanted)
    return edited.replace("\n", "\r\n") if carriage else edited


def _is_finite(value: Any) -> bool:
    """Whether no number in it is infinite, or none at all."""
    if isinstance(value, dict | list):
        return all(map(_is_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


def _means(text: str, path: str, meant: Any) -> bool:
    from livecfg.errors import RefusedError

    try:
        return bool((read(text.encode(), path, tags=TAGS).value or {}) == meant)
    except RefusedError:
        return False


def _merged(value: Any, loc: Loc, wanted: Any) -> Any:
    """The value with `wanted` at the place; `_GONE` takes it away, and every mapping that it leaves empty."""
    if not loc:
        return wanted
    below = dict(value) if isinstance(value, dict) else {}
    inner = _merged(below.pop(loc[0], None) if wanted is _GONE else below.get(loc[0]), loc[1:], wanted)
    return below if inner is _GONE or (wanted is _GONE and inner == {}) else below | {loc[0]: inner}


def _depth(value: Any, loc: Loc) -> int:
    """How many parts of the key are there already."""
    for index, part in enumerate(loc):
        if not isinstance(value, dict) or part not in value:
            return index
        value = value[part]
    return len(loc)


def _prunable(value: Any, loc: Loc) -> Loc:
    """The place of the key, or of the outermost mapping that holds nothing but it."""
    cut = len(loc)
    inner = value
    for index, part in enumerate(loc[:-1]):
        inner = inner[part]
        cut = len(loc) if len(inner) > 1 else min(cut, index + 1)
    return loc[:cut]


# --- in the text ----------------------------------------------------------------------------------------------------------


def _nodes(text: str, loc: Loc) -> tuple[Any, Any]:
    """The YAML nodes of a key and its value, which are there."""
    import yaml

    node: Any = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    for part in loc:
        key, node = next((k, v) for k, v in node.value if k.value == part)
    return key, node


def _replace(text: str, loc: Loc, literal: str) -> str:
    """Put the literal where the scalar stood."""
    import yaml

    _, node = _nodes(text, loc)
    start, end = node.start_mark.index, node.end_mark.index
    if not isinstance(node, yaml.ScalarNode):
        return text  # a mapping or a list: the caller sees that nothing changed and edits the structure
    if node.style in {"|", ">"}:
        end -= len(text[start:end]) - len(text[start:end].rstrip("\n"))
    return text[:start] + (" " if text[start - 1] == ":" else "") + literal + text[end:]


def _insert(document: Document, text: str, loc: Loc, depth: int, literal: str) -> str:
    """Add the missing part of the key as new lines at the end of the mapping that holds it."""
    parent = loc[:depth]
    value = document.value
    for part in parent:
        value = value[part]
    if (value is not None and not isinstance(value, dict)) or (not value and depth):
        return text  # not a mapping yet, or an empty one inside: structure
    if value == {}:
        text = text.rstrip().removesuffix("{}")  # a layer that was empty so far
    indent = document.key_position((*parent, next(iter(value)))).column - 1 if value else 0
    lines = text.rstrip("\n").split("\n") if text.strip() else []
    last = _last_line(_nodes(text, (*parent, list(value)[-1]))[1]) + 1 if value else len(lines)
    new = [f"{' ' * (indent + 2 * i)}{part}:" for i, part in enumerate(loc[depth:])]
    new[-1] += f" {literal}"
    return "\n".join([*lines[:last], *new, *lines[last:]]) + "\n"


def _remove(text: str, loc: Loc) -> str:
    """Take the lines of a key out, when they are its own."""
    key, value = _nodes(text, loc)
    lines = text.split("\n")
    first = key.start_mark.line
    if lines[first][: key.start_mark.column].strip():
        return text  # inside a flow mapping: structure
    return "\n".join(lines[:first] + lines[_last_line(value) + 1 :])


def _last_line(node: Any) -> int:
    """The line, from 0, on which a node ends; comments and empty lines after it are not its own."""
    import yaml

    if isinstance(node, yaml.ScalarNode):
        ends_before = node.style in {"|", ">"} and node.end_mark.column == 0  # the mark is at the start of the next line
        return int(node.end_mark.line) - ends_before
    if node.flow_style or not node.value:
        return int(node.end_mark.line)
    last = node.value[-1]
    return _last_line(last[1] if isinstance(last, tuple) else last)


# --- in the structure -----------------------------------------------------------------------------------------------------


def _structurally(text: str, loc: Loc, wanted: Any) -> str:
    """Edit through ruamel.yaml, which keeps comments over structural changes."""
    try:
        from ruamel.yaml import YAML
    except ImportError:
        fail("this edit needs ruamel.yaml (pip install 'livecfg[cli]'): it changes the structure; or edit the file by hand")
    from io import StringIO

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    root = yaml.load(text) or {}
    if hasattr(root, "fa"):
        root.fa.set_block_style()
    _put(root, loc, wanted)
    out = StringIO()
    yaml.dump(root, out)
    return out.getvalue()


def _put(root: Any, loc: Loc, wanted: Any) -> None:
    if wanted is _GONE:
        *outer, last = _prunable(root, loc)
        for part in outer:
            root = root[part]
        del root[last]
        return
    for part in loc[:-1]:
        if not isinstance(root.get(part), dict):
            root[part] = {}
        root = root[part]
    root[loc[-1]] = wanted
