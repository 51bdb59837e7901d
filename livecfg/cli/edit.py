"""Edit one key in the text of a YAML or JSON layer: the rest of the text, comments and order stay as they are."""

from __future__ import annotations

import json
from typing import Any

from livecfg.cli.output import fail
from livecfg.document import Document, read


def set_in_text(text: str, key: str, value: str, path: str) -> str:
    """Give `text` with the dotted `key` set to `value`, a YAML scalar or flow value.

    Raises:
        RefusedError: the text or the value is malformed.

    """
    wanted = read(value.encode(), "value").value
    loc = tuple(key.split("."))
    if not all(loc):
        fail(f"{key!r} is not a dotted key")
    document = read(text.encode(), path)
    if path.endswith(".json"):
        return _set_in_json(document, loc, wanted)
    if document.value is not None and not isinstance(document.value, dict):
        fail(f"{path}: expected a mapping at the top")
    literal = _literal(value, wanted)
    depth = _depth(document.value, loc)
    edited = _replace(document, text, loc, literal) if depth == len(loc) else _insert(document, text, loc, depth, literal)
    if read(edited.encode(), path).value != _merged(document.value, loc, wanted):
        return _set_structurally(text, loc, wanted)
    return edited


def _literal(text: str, value: Any) -> str:
    """The value as it goes into YAML: as given when that is safe inside any context, else as JSON, which YAML reads alike."""
    return text if not isinstance(value, str) or text.isalnum() else json.dumps(value, ensure_ascii=False)


def _merged(value: Any, loc: tuple[str, ...], wanted: Any) -> Any:
    if not loc:
        return wanted
    below = value if isinstance(value, dict) else {}
    return below | {loc[0]: _merged(below.get(loc[0]), loc[1:], wanted)}


def _depth(value: Any, loc: tuple[str, ...]) -> int:
    """How many parts of the key are there already."""
    for index, part in enumerate(loc):
        if not isinstance(value, dict) or part not in value:
            return index
        value = value[part]
    return len(loc)


def _offset(text: str, line: int, column: int) -> int:
    start = 0
    for _ in range(line - 1):
        start = text.index("\n", start) + 1
    return start + column - 1


def _replace(document: Document, text: str, loc: tuple[str, ...], literal: str) -> str:
    """Put the literal where the plain scalar stood, up to its end on the line."""
    import yaml

    start = _offset(text, *document.position(loc))
    loader = yaml.CSafeLoader(text) if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader(text)
    try:
        while loader.check_event():
            event: Any = loader.get_event()
            is_scalar = isinstance(event, yaml.ScalarEvent)
            begin, end = _mark_index(event.start_mark), _mark_index(event.end_mark)
            if is_scalar and begin == start:
                return text[:start] + literal + text[end:]
    finally:
        loader.dispose()
    return text  # a mapping or a list: the caller sees that nothing changed and edits the structure


def _mark_index(mark: Any) -> int:
    return int(mark.index)


def _insert(document: Document, text: str, loc: tuple[str, ...], depth: int, literal: str) -> str:
    """Add the missing part of the key as new lines at the end of the mapping that holds it."""
    parent = loc[:depth]
    value = document.value
    for part in parent:
        value = value[part]
    if value is not None and not isinstance(value, dict):
        return text
    if value == {} and depth:
        return text  # an empty flow mapping inside: structure
    if value == {}:
        text = text.rstrip().removesuffix("{}")  # a layer that was empty so far
    indent = document.key_position((*parent, next(iter(value)))).column - 1 if value else 0
    lines = text.rstrip("\n").split("\n") if text.strip() else []
    last = _last_line(document, parent) if value else len(lines)
    new = [f"{' ' * (indent + 2 * i)}{part}:" for i, part in enumerate(loc[depth:])]
    new[-1] += f" {literal}"
    return "\n".join([*lines[:last], *new, *lines[last:]]) + "\n"


def _last_line(document: Document, parent: tuple[str, ...]) -> int:
    """The line of the last node inside a mapping."""
    from livecfg.document import _marks

    marks = _marks(document.data, document.path.endswith(".json"))
    inside = [at.line for loc, pair in marks.items() if loc[: len(parent)] == parent for at in pair]
    return max(inside)


def _set_structurally(text: str, loc: tuple[str, ...], wanted: Any) -> str:
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
    inner = root
    for part in loc[:-1]:
        if not isinstance(inner.get(part), dict):
            inner[part] = {}
        inner = inner[part]
    inner[loc[-1]] = wanted
    out = StringIO()
    yaml.dump(root, out)
    return out.getvalue()


def _set_in_json(document: Document, loc: tuple[str, ...], wanted: Any) -> str:
    return json.dumps(_merged(document.value, loc, wanted), indent=2, ensure_ascii=False) + "\n"
