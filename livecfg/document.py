"""bytes → Document: the one strict reader of YAML and JSON, for configuration, flags and trust alike.

Rules. The ending decides: `.json` is JSON (RFC 8259), everything else YAML 1.2 with the core schema. Mapping keys are
text, as in JSON. Refused: duplicate keys, anchors, aliases, merge keys, tags the caller did not name, several documents,
directives, byte order marks, the words that YAML 1.1 took for booleans (`yes`, `no`, `on`, `off`) as plain values, integers
with a leading zero or beyond 64 bits, and whatever is over the limits. Nothing is interpolated.

A value is built in one pass without positions; the position of a node is found by a second pass over the same bytes, only when
somebody asks, so that the common case does not pay for it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

from livecfg.errors import RefusedError
from livecfg.refusal import Code, Refusal, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Loc = tuple[str | int, ...]
SECRET = "!secret"  # noqa: S105 - a tag


class Position(NamedTuple):
    """Line and column, both from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class DocumentLimits:
    """Caps of one document: bytes before it is parsed, depth and nodes while it is."""

    size_bytes: int = 1 << 20
    depth: int = 32
    nodes: int = 200_000


LIMITS = DocumentLimits()


@dataclass(frozen=True, slots=True)
class Tagged:
    """A scalar under a tag the caller allowed, such as `!unset` or `!secret env:DB_PASSWORD`."""

    tag: str
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed document: its `value` as plain data, its `path` in the repository, and positions on demand."""

    path: str
    data: bytes
    value: Any

    def position(self, loc: Loc = ()) -> Position:
        """Where the value at `loc` stands; of its nearest ancestor when there is none."""
        return self._mark(loc)[1]

    def key_position(self, loc: Loc) -> Position:
        """Where the key of `loc` stands (for a list item: the item)."""
        return self._mark(loc)[0]

    def refusal(self, code: Code, loc: Loc, message: str, *, at_key: bool = False, rule: str = "", advice: str = "") -> Refusal:
        """Make a Refusal that points at `loc` in this file."""
        line, column = self.key_position(loc) if at_key else self.position(loc)
        return Refusal(code, message, path=self.path, line=line, column=column, rule=rule, advice=advice)

    def _mark(self, loc: Loc) -> tuple[Position, Position]:
        marks = _marks(self.data, self.path.endswith(".json"))
        while loc and loc not in marks:
            loc = loc[:-1]
        return marks.get(loc, (Position(1, 1), Position(1, 1)))


def read(data: bytes, path: str, limits: DocumentLimits = LIMITS, tags: frozenset[str] = frozenset()) -> Document:
    """Parse `data` strictly; `path` names it in faults and chooses the format by its ending.

    Raises:
        RefusedError: one Refusal with line and column: the first fault found.

    """
    text = decoded(data, path, limits)
    value = _read_json(text, path, limits) if path.endswith(".json") else _read_yaml(text, path, limits, tags)
    return Document(path, data, value)


def decoded(data: bytes, path: str, limits: DocumentLimits) -> str:
    """Give the text of a document that is not too large.

    Raises:
        RefusedError: it is, or is not UTF-8, or begins with a byte order mark.

    """
    if len(data) > limits.size_bytes:
        raise _fault(Code.DOCUMENT_LIMIT, path, Position(1, 1), f"{len(data):,} bytes; at most {limits.size_bytes:,} are read")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise _fault(Code.SYNTAX, path, Position(line, column), f"not UTF-8 (byte 0x{data[error.start]:02x})") from None
    if text.startswith("\ufeff"):
        raise _fault(Code.SYNTAX, path, Position(1, 1), "starts with a byte order mark", "save it as UTF-8 without one")
    return text


def _fault(code: Code, path: str, at: Position, message: str, advice: str = "") -> RefusedError:
    return RefusedError(Refusal(code, message, path=path, line=at.line, column=at.column, advice=advice))


# --- JSON -------------------------------------------------------------------------------------------------------------------


class JsonFaultError(Exception):
    """A fault met inside a hook of the JSON parser, which does not say where it is; the second pass finds out."""

    def __init__(self, code: Code, message: str) -> None:
        self.code = code
        super().__init__(message)


def _read_json(text: str, path: str, limits: DocumentLimits) -> Any:
    bound_json(text, path, limits)
    try:
        value = _parse_json(text, path, JSON)
    except JsonFaultError as error:
        _parse_json(text, path, json.JSONDecoder(parse_int=str))  # the place is looked for in well-formed JSON only
        at = next(_json_faults(text), Position(1, 1))
        raise _fault(error.code, path, at, str(error)) from None
    if "\\u" in text:
        no_surrogates(value, path)
    return value


def _parse_json(text: str, path: str, decoder: json.JSONDecoder) -> Any:
    try:
        return decoder.decode(text)
    except json.JSONDecodeError as error:
        raise _fault(Code.SYNTAX, path, Position(error.lineno, error.colno), f"not JSON: {error.msg}") from None


def bound_json(text: str, path: str, limits: DocumentLimits) -> None:
    """Refuse deep or wide JSON before the parser, which recurses, sees it.

    Raises:
        RefusedError: it is.

    """
    if most_values(text) > limits.nodes:
        raise _fault(Code.DOCUMENT_LIMIT, path, Position(1, 1), f"more than {limits.nodes:,} values")
    if text.count("[") + text.count("{") <= limits.depth or is_shallow(text, limits.depth):
        return
    if max(accumulate(map(_STEP.__getitem__, _NO_BRACKETS.sub("", text))), default=0) > limits.depth:
        raise _fault(Code.DOCUMENT_LIMIT, path, _too_deep(text, limits.depth), f"nested deeper than {limits.depth} levels")


def most_values(text: str) -> int:
    """How many values a JSON text holds at most."""
    return text.count(",") + text.count("[") + text.count("{")


def is_shallow(text: str, most: int) -> bool:
    """Tell whether well-formed JSON, or a part of it that ends no string, nests at most so deep; False: look more closely.

    All but quotes and brackets is dropped, then what lies in quotes; each pass over the brackets takes the innermost pairs away.
    """
    data = text.encode()
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    brackets = b"".join(data.translate(_AS_BRACES, _NOT_STRUCTURE).split(b'"')[::2])
    for _ in range(most):
        if not brackets:
            break
        brackets = brackets.replace(b"{}", b"")
    return not brackets


def _too_deep(text: str, most: int) -> Position:
    depth = 0
    for match in _BRACKET.finditer(text):
        depth += _STEP.get(match[0], 0)
        if depth > most:
            return _at(text, match.start())
    raise AssertionError("a depth that is nowhere")


# A string that does not end goes on to the end of the text: looked for again at each of its quotes it would take hours.
_STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)'
_NO_BRACKETS = re.compile(rf'{_STRING}|[^\[\]{{}}"]++', re.DOTALL)
_BRACKET = re.compile(rf"{_STRING}|[\[\]{{}}]", re.DOTALL)
_STEP = {"[": 1, "{": 1, "]": -1, "}": -1}
_AS_BRACES, _NOT_STRUCTURE = bytes.maketrans(b"[]", b"{}"), bytes(set(range(256)) - set(b'"[]{}'))
_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s\[\]{},:"]+', re.DOTALL)
_INT64 = range(-(1 << 63), 1 << 64)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        key = next(k for k, _ in pairs if k in seen or seen.add(k))  # type: ignore[func-returns-value]  # add() gives None: falsy
        raise JsonFaultError(Code.DUPLICATE_KEY, f"the key {key!r} stands twice")
    return result


def _no_constant(name: str) -> Any:
    raise JsonFaultError(Code.SYNTAX, f"{name} is not JSON")


def _json_int(text: str) -> int:
    if len(text) > 20 or int(text) not in _INT64:
        raise JsonFaultError(Code.DOCUMENT_LIMIT, "an integer beyond 64 bits")
    return int(text)


def no_surrogates(value: Any, path: str) -> None:
    """Refuse half a surrogate pair, which only an escape can bring in.

    Raises:
        RefusedError: there is one.

    """
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise _fault(Code.SYNTAX, path, Position(1, 1), "a string holds half of a surrogate pair") from None


JSON = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_json_int)
"""Reads well-formed JSON strictly; raises JsonFaultError for what else is wrong with it."""


def _json_faults(text: str) -> Iterator[Position]:
    """Where duplicate keys, constants and wide integers stand."""
    for kind, _, start, word in _json_events(text):
        if kind == "duplicate" or (kind == "value" and (word in {"NaN", "Infinity", "-Infinity"} or _is_wide(word))):
            yield _at(text, start)


def _is_wide(token: str) -> bool:
    return bool(re.fullmatch(r"-?\d{19,}", token)) and (len(token) > 20 or int(token) not in _INT64)


def _json_events(text: str) -> Iterator[tuple[str, Loc, int, str]]:
    """Give (kind, loc, offset, token) for each key, duplicate key and value of well-formed JSON."""
    stack: list[list[Any]] = []  # [is_object, current key or index, keys seen, awaiting a key]
    for match in _JSON_TOKEN.finditer(text):
        word, start = match[0], match.start()
        if word in "]}":
            stack.pop()
        elif word == ",":
            frame = stack[-1]
            frame[1], frame[3] = (None, True) if frame[0] else (frame[1] + 1, False)
        elif word == ":":
            stack[-1][3] = False
        elif stack and stack[-1][3]:
            key = json.loads(word)
            yield "duplicate" if key in stack[-1][2] else "key", (), start, word
            stack[-1][1] = key
            stack[-1][2].add(key)
            yield "key", tuple(f[1] for f in stack), start, word
        else:
            yield "value", tuple(f[1] for f in stack), start, word
            if word in "[{":
                is_object = word == "{"
                stack.append([is_object, None if is_object else 0, set(), is_object])


def _at(text: str, offset: int) -> Position:
    return Position(text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset))


# --- YAML -------------------------------------------------------------------------------------------------------------------

_CORE_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_CORE_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_YAML_1_1_BOOLEANS = frozenset(w for word in ("yes", "no", "on", "off", "y", "n") for w in (word, word.title(), word.upper()))
_MAYBE_NUMBER = frozenset("0123456789.+-")


class _Yaml:
    """The event loop: one frame per open collection, no recursion, so that depth costs no stack."""

    def __init__(self, path: str, limits: DocumentLimits, tags: frozenset[str]) -> None:
        self.path = path
        self.limits = limits
        self.tags = tags
        self.marks: dict[Loc, tuple[Position, Position]] | None = None  # filled by the second pass only
        self.root: list[Any] = []
        self.container: Any = self.root  # the open collection
        self.loc: Loc = ()  # where it stands
        self.key: Any = None  # its pending key, when it is a mapping
        self.stack: list[tuple[Any, Loc]] = []  # what encloses it

    def fault(self, code: Code, event: Any, message: str, advice: str = "") -> RefusedError:
        at = Position(event.start_mark.line + 1, event.start_mark.column + 1)
        return _fault(code, self.path, at, message, advice)

    def build(self, text: str) -> Any:
        """Build the value, and the marks when `self.marks` is a mapping."""
        import yaml  # noqa: PLC0415 - loaded at the first document, not by `import livecfg`

        loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
        try:
            return self._run(loader.get_event, yaml.events)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            at = Position(mark.line + 1, mark.column + 1) if mark else Position(1, 1)
            raise _fault(Code.SYNTAX, self.path, at, f"not YAML: {error.problem or error.context}") from None
        except yaml.YAMLError as error:
            raise _fault(Code.SYNTAX, self.path, Position(1, 1), f"not YAML: {printable(str(error)).splitlines()[0]}") from None
        finally:
            loader.dispose()

    def _run(self, next_event: Callable[[], Any], kinds: Any) -> Any:
        next_event()  # stream start
        event = next_event()
        if isinstance(event, kinds.StreamEndEvent):
            return None
        if event.version or event.tags:
            raise self.fault(Code.YAML_FEATURE, event, "a YAML directive", "remove the line that begins with %")
        value = self._node(next_event, kinds)
        next_event()  # document end
        event = next_event()
        if not isinstance(event, kinds.StreamEndEvent):
            raise self.fault(Code.YAML_FEATURE, event, "a second document", "one document a file: remove the line '---'")
        return value

    def _node(self, next_event: Callable[[], Any], kinds: Any) -> Any:
        """Build one node: scalars go into the open container, collections open one, end events close it."""
        scalar, starts = kinds.ScalarEvent, (kinds.MappingStartEvent, kinds.SequenceStartEvent)
        for _ in range(self.limits.nodes):
            event = next_event()
            if type(event) is scalar:
                if self.key is None and type(self.container) is dict:
                    self.key = self._key(event, self.container)
                    self._mark(event)
                    continue
                self._put(event, self._scalar(event))
            elif isinstance(event, starts):
                self._open(event, {} if isinstance(event, starts[0]) else [])
            elif isinstance(event, kinds.AliasEvent):
                raise self.fault(Code.YAML_FEATURE, event, f"an alias (*{event.anchor})", "write the value out")
            else:
                self.container, self.loc = self.stack.pop()
            if not self.stack:
                return self.root[0]
        raise self.fault(Code.DOCUMENT_LIMIT, event, f"more than {self.limits.nodes:,} values")

    def _put(self, event: Any, value: Any) -> None:
        self._mark(event)
        if type(self.container) is dict:
            self.container[self.key] = value
            self.key = None
        else:
            self.container.append(value)

    def _open(self, event: Any, value: Any) -> None:
        self._check_start(event)
        here = self._here() if self.marks is not None else ()
        self._put(event, value)
        self.stack.append((self.container, self.loc))
        self.container, self.loc = value, here

    def _here(self) -> Loc:
        if not self.stack:
            return ()
        return (*self.loc, self.key if type(self.container) is dict else len(self.container))

    def _mark(self, event: Any) -> None:
        if self.marks is not None:
            at = Position(event.start_mark.line + 1, event.start_mark.column + 1)
            loc = self._here()
            self.marks[loc] = (self.marks[loc][0] if loc in self.marks else at, at)

    def _check_start(self, event: Any) -> None:
        if type(self.container) is dict and self.key is None:
            raise self.fault(Code.YAML_FEATURE, event, "a key that is not text", "keys are text; quote it if it is meant so")
        if event.anchor is not None:
            raise self.fault(Code.YAML_FEATURE, event, f"an anchor (&{event.anchor})", "write the value out where it is used")
        if event.tag is not None:
            raise self.fault(Code.YAML_FEATURE, event, f"the tag {event.tag}", "remove it: types come from the model")
        if len(self.stack) >= self.limits.depth:
            raise self.fault(Code.DOCUMENT_LIMIT, event, f"nested deeper than {self.limits.depth} levels")

    def _key(self, event: Any, container: dict[str, Any]) -> str:
        key: str = event.value
        if event.anchor is not None or event.tag is not None:
            raise self.fault(Code.YAML_FEATURE, event, "an anchor or tag on a key", "keys are plain text")
        if key == "<<" and event.implicit[0]:
            raise self.fault(Code.YAML_FEATURE, event, "a merge key (<<)", "layers merge by themselves; write the values out")
        if key in container:
            raise self.fault(Code.DUPLICATE_KEY, event, f"the key {key!r} stands twice", "keep one of them")
        return key

    def _scalar(self, event: Any) -> Any:
        if event.anchor is not None:
            raise self.fault(Code.YAML_FEATURE, event, f"an anchor (&{event.anchor})", "write the value out where it is used")
        text: str = event.value
        if event.tag is not None:
            if event.tag not in self.tags:
                raise self.fault(Code.YAML_FEATURE, event, f"the tag {event.tag}", "remove it: types come from the model")
            return Tagged(event.tag, text)
        if not event.implicit[0]:  # quoted or block: text
            return text
        if text[:1] in _MAYBE_NUMBER and text:
            return self._number(event, text)
        if text in _WORDS:
            return _WORDS[text]
        if text in _YAML_1_1_BOOLEANS:
            advice = f'write true or false, or "{text}" in quotes for the text'
            raise self.fault(Code.YAML_FEATURE, event, f"the word {text}, which some YAML readers take for a boolean", advice)
        return text

    def _number(self, event: Any, text: str) -> Any:
        if _CORE_INT.fullmatch(text):
            if len(text) > 21 or int(text) not in _INT64:
                raise self.fault(Code.DOCUMENT_LIMIT, event, "an integer beyond 64 bits", "quote it if it is text")
            return int(text)
        if text.startswith(("0o", "0x")) and re.fullmatch(r"0o[0-7]{1,21}|0x[0-9a-fA-F]{1,16}", text):
            return int(text[2:], 8 if text[1] == "o" else 16)
        if re.fullmatch(r"[-+]?0[0-9]+", text):
            advice = "write it without the leading zero, as 0o… for octal, or in quotes for text"
            message = f"{text}: an integer with a leading zero, which readers take for different numbers"
            raise self.fault(Code.YAML_FEATURE, event, message, advice)
        if _CORE_FLOAT.fullmatch(text):
            return float(text)
        return _WORDS.get(text, text)


def _read_yaml(text: str, path: str, limits: DocumentLimits, tags: frozenset[str]) -> Any:
    return _Yaml(path, limits, tags).build(text)


class _AnyTag(frozenset[str]):
    """Every tag: the second pass looks only at documents that the first one accepted."""

    def __contains__(self, _: object) -> bool:
        return True


@lru_cache(maxsize=8)
def _marks(data: bytes, is_json: bool) -> dict[Loc, tuple[Position, Position]]:  # noqa: FBT001 - part of a cache key
    """Key and value position of every node of an accepted document."""
    text = data.decode()
    if not is_json:
        second = _Yaml("", DocumentLimits(), _AnyTag())
        second.marks = {}
        second.build(text)
        return second.marks
    marks: dict[Loc, tuple[Position, Position]] = {}
    line, line_start, seen = 1, 0, 0
    for kind, loc, start, _ in _json_events(text):
        if newlines := text.count("\n", seen, start):  # from the last one on: from the start each time it would take minutes
            line, line_start = line + newlines, text.rfind("\n", seen, start) + 1
        at, seen = Position(line, start - line_start + 1), start
        if kind == "key" and loc:
            marks[loc] = (at, at)
        elif kind == "value":
            marks[loc] = (marks[loc][0] if loc in marks else at, at)
    return marks
