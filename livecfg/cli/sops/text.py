"""Encrypt and decrypt inside the text of a YAML or JSON document: order, comments, blank lines and styles stay as they are.

Only scalars and comments are replaced, and the `sops` part is added or taken away. What comes out is read again and compared with
what was meant, so that a place that surgery cannot reach is found here and not by an application.
"""

from __future__ import annotations

import json
import re
from collections import deque
from textwrap import indent
from typing import TYPE_CHECKING, Any

from livecfg.cli.edit import unset_in_text
from livecfg.cli.output import fail
from livecfg.cli.sops.layout import Comment, Entry, Layout
from livecfg.document import Tagged, read
from livecfg.errors import RefusedError
from livecfg.layers import TAGS
from livecfg.sops import VALUE, Opening, is_comment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from livecfg.cli.sops.sealing import Sealer
    from livecfg.document import Document

Edit = tuple[int, int, str]  # from, to, the new text
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_PLAIN_TEXT = re.compile(r"[A-Za-z_/](?:[\w ./@+=-]*[\w/+=])?", re.ASCII)
_WORDS = frozenset(("true", "false", "null", "yes", "no", "on", "off", "y", "n"))
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_FLOAT_INTEGERS = 1 << 53


# --- encrypt --------------------------------------------------------------------------------------------------------------


def seal(document: Document, sealer: Sealer, finish: Callable[[], dict[str, Any]]) -> str:
    """Give the document's text encrypted, with the `sops` part that `finish` gives when every value went through `sealer`.

    Ends the command where a value cannot be encrypted so that every reader of the format gets the same back.
    """
    text = document.data.decode()
    if document.path.endswith(".json"):
        return json.dumps(_sealed(document.value, (), sealer) | {"sops": finish()}, indent=2, ensure_ascii=False) + "\n"
    carriage = text.count("\r\n") == text.count("\n") > 0
    text = text.replace("\r\n", "\n") if carriage else text
    layout = Layout(text)
    values = dict(_leaves(document.value, ()))
    edits = [edit for entry in layout.entries for edit in _sealing(layout, entry, values, sealer)]
    edits += [
        (c.start, c.end, f"#{cipher}")
        for c in layout.comments
        if (cipher := sealer.comment(c.text, layout.keys_of(c))) is not None
    ]
    sealed = _with_part(applied(text, edits), layout, finish())
    return sealed.replace("\n", "\r\n") if carriage else sealed


def _sealed(value: Any, keys: tuple[str, ...], sealer: Sealer) -> Any:
    if isinstance(value, dict):
        return {key: _sealed(inner, (*keys, key), sealer) for key, inner in value.items()}
    if isinstance(value, list):
        return [_sealed(inner, keys, sealer) for inner in value]
    if isinstance(value, int) and abs(value) > _FLOAT_INTEGERS:
        fail(f"{'.'.join(keys)}: readers of JSON round such a number: put it in quotes")
    cipher = sealer.value(value, keys)
    return value if cipher is None else cipher


def _sealing(layout: Layout, entry: Entry, values: dict[tuple[str | int, ...], Any], sealer: Sealer) -> Iterable[Edit]:
    """The edits for one key and its value, or one item."""
    if entry.key is not None and not entry.key.style and _strange_key(entry.key.value):
        yield entry.key.start_mark.index, entry.key.end_mark.index, _quoted(entry.key.value)
    if entry.loc not in values:
        return  # a mapping or a list: its own entries follow
    value = values[entry.loc]
    cipher = sealer.value(value, entry.keys)
    start, end = layout.span(entry.value)
    if cipher is not None:
        header = layout.header_comment(entry.value)
        kept = sealer.comment(header, entry.container) if header else None
        after = f" #{kept or header}" if header else ""
        yield start, end, layout.spaced(start, f'"{cipher}"' if entry.flow else cipher) + after
    elif isinstance(value, str) and not entry.value.style and value[:1] in "0123456789+-." and value:
        yield start, end, layout.spaced(start, _quoted(value))  # text that other readers take for a time or a number


def _strange_key(key: str) -> bool:
    return not _PLAIN_KEY.fullmatch(key) or key.lower() in _WORDS


def _with_part(text: str, layout: Layout, part: dict[str, Any]) -> str:
    if not layout.flow:
        body = text if text.endswith("\n") else text + "\n"
        return body + indent(_dump({"sops": part}), " " * layout.column)
    at = layout.end + len(text) - len(layout.text)  # every edit is before the end of the root
    head = text[: at - 1].rstrip()
    comma = "" if head.endswith((",", "{")) else ","
    return f'{head}{comma} "sops": {json.dumps(part)}{text[at - 1 :]}'


def _dump(part: dict[str, Any]) -> str:
    """The `sops` part laid out as the sops program does, so that an edit by either changes the lines it must."""
    return "\n".join(_lines(part)) + "\n"


def _lines(value: Any) -> Iterator[str]:
    rows = value.items() if isinstance(value, dict) else (("-", item) for item in value)
    for key, inner in rows:
        if isinstance(inner, dict) and key == "-":
            first, *rest = _lines(inner)
            yield f"- {first}"
            yield from (f"  {line}" for line in rest)
        elif isinstance(inner, dict | list) and inner:
            yield f"{key}:"
            yield from (f"    {line}" for line in _lines(inner))
        elif isinstance(inner, str) and "\n" in inner and inner.endswith("\n"):
            yield f"{key}: |"
            yield from (f"  {line}" for line in inner.splitlines())
        else:
            yield f"{key}{' ' if key == '-' else ': '}{_scalar(inner)}"


def _scalar(value: Any) -> str:
    if not isinstance(value, str) or re.match(r"[0-9]{4}-", value):
        return json.dumps(value)
    try:
        plain = read(f"a: {value}".encode(), "sops").value == {"a": value}
    except RefusedError:
        plain = False
    return value if plain else _quoted(value)


# --- decrypt --------------------------------------------------------------------------------------------------------------


def unseal(document: Document, opening: Opening, value: Any) -> str:
    """Give the document's text in plain, with the opened value, its comments opened too, without the `sops` part."""
    if document.path.endswith(".json"):
        return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    text = document.data.decode().replace("\r\n", "\n")
    layout = Layout(text)
    values = dict(_leaves(value, ()))
    comments = [_opened(comment, layout, opening) for comment in layout.comments]
    for blocks in (True, False):
        edits = [edit for edit in comments if edit is not None]
        edits += [e for entry in layout.entries if (e := _opening(layout, entry, values, opening, blocks=blocks)) is not None]
        plain = unset_in_text(applied(text, edits), ("sops",), document.path, opened=True)
        if _means(plain, document.path, value):
            return plain
    import yaml

    return yaml.safe_dump(_untagged(value), sort_keys=False, allow_unicode=True)


def _opening(layout: Layout, entry: Entry, values: dict[Any, Any], opening: Opening, *, blocks: bool) -> Edit | None:
    """The edit that puts the plain value where an encrypted one stands."""
    cipher = getattr(entry.value, "value", None)
    if not isinstance(cipher, str) or not VALUE.fullmatch(cipher) or entry.loc[0] == "sops":
        return None
    start, end = layout.span(entry.value)
    if is_comment(cipher):  # an item of a list, as the sops program writes it
        dash = layout.text.rfind("-", 0, start)
        return dash, end, f"#{opening.comment(cipher, [entry.container]) or cipher}"
    loc = layout.without_comments(entry.loc)
    return start, end, layout.spaced(start, _literal(values[loc], entry, blocks=blocks and layout.ends_line(end)))


def _opened(comment: Comment, layout: Layout, opening: Opening) -> Edit | None:
    if not VALUE.fullmatch(comment.text):
        return None
    plain = opening.comment(comment.text, layout.candidates(comment))
    return None if plain is None else (comment.start, comment.end, f"#{plain}")


def _literal(value: Any, entry: Entry, *, blocks: bool) -> str:
    """A plain value as YAML: text of several lines as a block, where there is room for one."""
    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN_TEXT.fullmatch(value) and value.lower() not in _WORDS and not entry.flow:
        return value
    lines = value.split("\n")
    if not blocks or entry.flow or len(lines) == 1 or _UNPRINTABLE.search(value) or value[0] in " \n" or "\t" in value:
        return _quoted(value)
    keep = "" if value.endswith("\n") else "-"
    column = " " * (entry.column + 2)
    return "\n".join([f"|{keep}", *(f"{column}{line}" if line else "" for line in lines)]).rstrip("\n")


# --- both -----------------------------------------------------------------------------------------------------------------


def applied(text: str, edits: Iterable[Edit]) -> str:
    """Give the text with the edits, which do not overlap, made."""
    parts: deque[str] = deque()
    end = len(text)
    for start, stop, new in sorted(edits, reverse=True):
        parts.appendleft(text[stop:end])
        parts.appendleft(new)
        end = start
    return text[:end] + "".join(parts)


def _leaves(value: Any, loc: tuple[str | int, ...]) -> Iterable[tuple[tuple[str | int, ...], Any]]:
    """Every value that is neither a mapping nor a list, with its place."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*loc, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*loc, index))
    else:
        yield loc, value


def _means(text: str, path: str, meant: Any) -> bool:
    try:
        return bool((read(text.encode(), path, tags=TAGS).value or {}) == meant)
    except RefusedError:
        return False


def _untagged(value: Any) -> Any:
    if isinstance(value, Tagged):
        fail(f"a {value.tag} reference stands where it cannot be kept: write the document anew, by hand")
    if isinstance(value, dict):
        return {key: _untagged(inner) for key, inner in value.items()}
    return [_untagged(inner) for inner in value] if isinstance(value, list) else value


def _quoted(text: str) -> str:
    """Text in double quotes, as YAML and JSON read it alike."""
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(text, ensure_ascii=False))
