"""Raw commit bytes → Commit, with the flaw that makes its headers not canonical, if there is one.

Git strips every header that starts with `gpgsig` from the signed payload, so only the exact headers of an ordinary commit count:
`tree`, at most two `parent`, `author`, `committer`, an optional `encoding`, one `gpgsig`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from livecfg.revision import Commit
from livecfg.trust.tree import SplitObjects

if TYPE_CHECKING:
    from livecfg.revision import Objects

_PERSON = re.compile(rb"([^\n\0<>]*<[^\n\0<>]*>) (\d{1,11}) [+-]\d{4}\Z")  # up to the year 5138: a date that can be shown
_ORDER = (b"tree", b"parent", b"author", b"committer", b"encoding", b"gpgsig", b"gpgsig-sha256")
_HEX_ID = {n: re.compile(rb"[0-9a-f]{%d}\Z" % n) for n in (40, 64)}
_ORDINARY = {
    n: re.compile(
        rb"tree ([0-9a-f]{%d})\n(?:parent ([0-9a-f]{%d})\n)?(?:parent ([0-9a-f]{%d})\n)?"
        rb"author ([^\n\0<>]*+<[^\n\0<>]*+>) (\d{1,11}) [+-]\d{4}\n"
        rb"committer ([^\n\0<>]*+<[^\n\0<>]*+>) (\d{1,11}) [+-]\d{4}\n"
        rb"(?:encoding [^\n]*+\n)?(%s ([^\n]*+(?:\n [^\n]*+)*+)\n)?\n" % (n, n, n, own)
    )
    for n, own in ((40, b"gpgsig"), (64, b"gpgsig-sha256"))
}
"""All headers of a commit without a flaw, as nearly every one has them: one match instead of a look at each line."""
MAX_COMMIT_BYTES = 64 * 1024
MAX_KEPT_COMMITS = 20_000


def read_commit(objects: Objects, commit_id: str) -> Commit:
    """Read and split one commit. A walk keeps them: each merge in it goes over much of the same history."""
    found = objects.commits.get(commit_id) if isinstance(objects, SplitObjects) else None
    return found if found is not None else split_commit(objects, commit_id, objects.read(commit_id, "commit"))


def split_commit(objects: Objects, commit_id: str, raw: bytes) -> Commit:
    """Split a commit that was read, for `read_commit` to find."""
    found = parse_commit(commit_id, raw)
    if isinstance(objects, SplitObjects):
        if len(objects.commits) >= MAX_KEPT_COMMITS:
            objects.commits.clear()
        objects.commits[commit_id] = found
    return found


def parse_commit(object_id: str, raw: bytes) -> Commit:
    """Split a commit; never raises: what is malformed is named in `flaw`. Of one that is too large only the headers are kept."""
    match = _ORDINARY[64 if len(object_id) == 64 else 40].match(raw) if len(raw) <= MAX_COMMIT_BYTES else None
    if match is None:
        return parse_any(object_id, raw)
    tree, first, second, author, author_time, committer, committer_time, header, signature = match.groups()
    if header is None:
        payload = raw
    else:
        start, end = match.span(8)
        payload = raw[:start] + raw[end:]
        signature = signature.replace(b"\n ", b"\n")
    return Commit(
        id=object_id,
        tree=tree.decode(),
        parents=tuple(parent.decode() for parent in (first, second) if parent is not None),
        author=_text(author).strip(),
        author_time=int(author_time),
        committer=_text(committer).strip(),
        committer_time=int(committer_time),
        message=_text(raw[match.end() :]),
        payload=payload,
        signature=signature,
        flaw="",
    )


def parse_any(object_id: str, raw: bytes) -> Commit:
    """Split a commit header by header, as `parse_commit` does with one whose headers it does not know at sight."""
    head, blank, message = raw.partition(b"\n\n")
    flaw = "" if blank and len(raw) <= MAX_COMMIT_BYTES else "it has no message part, or is too large"
    if len(raw) > MAX_COMMIT_BYTES:  # a walk keeps the commits it looks at
        head, message = head[:MAX_COMMIT_BYTES], b""
    lines: list[list[bytes]] = []  # a header each, with the lines that go on with it
    payload: list[bytes] = []
    for line in head.split(b"\n"):
        if line.startswith(b" ") and lines:
            lines[-1].append(line[1:])
        else:
            lines.append([line])
        if not lines[-1][0].partition(b" ")[0].startswith(b"gpgsig"):
            payload.append(line)
    headers: list[tuple[bytes, bytes]] = []
    for first, *more in lines:
        name, _, value = first.partition(b" ")
        headers.append((name, b"\n".join((value, *more))))
    flaw = flaw or _flaw(headers, len(object_id))
    values: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        values.setdefault(name, []).append(value)
    author, author_time = _person(values.get(b"author", [b""])[0])
    committer, committer_time = _person(values.get(b"committer", [b""])[0])
    signature = values.get(b"gpgsig" if len(object_id) == 40 else b"gpgsig-sha256")
    return Commit(
        id=object_id,
        tree=_text(values.get(b"tree", [b""])[0]),
        parents=tuple(_text(value) for value in values.get(b"parent", [])),
        author=author,
        author_time=author_time,
        committer=committer,
        committer_time=committer_time,
        message=_text(message),
        payload=b"\n".join(payload) + blank + message,
        signature=signature[0] if signature else None,
        flaw=flaw,
    )


def _flaw(headers: list[tuple[bytes, bytes]], id_length: int) -> str:  # noqa: PLR0911 - one return a flaw
    names = [name for name, _ in headers]
    own = b"gpgsig" if id_length == 40 else b"gpgsig-sha256"
    hex_id = _HEX_ID[64 if id_length == 64 else 40]
    if any(name not in _ORDER or (name.startswith(b"gpgsig") and name != own) for name in names):
        return "it has a header that an ordinary commit does not have"
    if [_ORDER.index(name) for name in names] != sorted(_ORDER.index(name) for name in names):
        return "its headers are not in order"
    counts = {name: names.count(name) for name in _ORDER}
    once = all(counts[name] == 1 for name in (b"tree", b"author", b"committer"))
    if not once or counts[b"parent"] > 2 or counts[b"encoding"] > 1 or counts[own] > 1:
        return "a header is missing, stands too often, or it has more than two parents"
    if not all(hex_id.match(value) for name, value in headers if name in {b"tree", b"parent"}):
        return "a tree or parent that is not an object id"
    if any(b"\n" in value for name, value in headers if name != own):
        return "a header that goes over several lines"
    if not all(_PERSON.match(value) for name, value in headers if name in {b"author", b"committer"}):
        return "a malformed author or committer"
    return ""


def _person(value: bytes) -> tuple[str, int]:
    match = _PERSON.match(value)
    return (_text(match[1]).strip(), int(match[2])) if match else ("", 0)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def trailers(message: str) -> list[tuple[str, str]]:
    """Give the `Key: value` lines of the last paragraph; exact case."""
    last = message.rstrip("\n").rsplit("\n\n", 1)[-1]
    found = []
    for line in last.split("\n"):
        key, colon, value = line.partition(": ")
        if colon and re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", key):
            found.append((key, value.strip()))
    return found
