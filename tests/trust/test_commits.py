"""Raw commits: what is recognised at sight is split as header by header."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livecfg.trust.commits import MAX_COMMIT_BYTES, parse_any, parse_commit

ID, WIDE = b"a1" * 20, b"b2" * 32
ORDER = ("tree", "parent", "parent", "author", "committer", "encoding", "gpgsig")
PERSON = b"Ana Li <ana@acme> 1700000000 +0100"
VALUES = {
    "tree": (ID, WIDE, ID[:-1], ID.upper()),
    "parent": (ID, WIDE, ID + b"\n x"),
    "author": (PERSON, b"<> 0 +0000", b"A\xff\xc3 <a> 99999999999 -0000", b"A <a> 1 +000", b"A <<a> 1 +0000", b" A <a>  1 +0000"),
    "committer": (PERSON, b"  spaced  <b> 12 +9999", b"A\0 <a> 1 +0000", b"A <a> 123456789012 +0000", PERSON + b"\n x", b""),
    "encoding": (b"latin-1", b"", b"x\n y"),
    "gpgsig": (b"-----BEGIN\n abc\n  d\n -----END", b"", b"one", b"\n ", b"a\n \n b", b"a\n gpgsig b\n tree c"),
}
NAMES = ("gpgsig", "gpgsig-sha256", "gpgsigx", "mergetag", "tree", "")


@st.composite
def commits(draw: st.DrawFn) -> bytes:
    """Draw a commit: an ordinary one, mostly, with a few headers left out, doubled, moved, of odd values or other names."""
    headers = [name for name in ORDER if name not in {"parent", "encoding", "gpgsig"} or draw(st.booleans())]
    for _ in range(draw(st.sampled_from((0, 0, 0, 1, 2)))):
        change = draw(st.sampled_from(("drop", "double", "swap")))
        at = draw(st.integers(0, max(len(headers) - 2, 0)))
        if change == "drop" and headers:
            headers.pop(at)
        elif change == "double" and headers:
            headers.insert(at, headers[at])
        elif len(headers) > 1:
            headers[at], headers[at + 1] = headers[at + 1], headers[at]
    lines = []
    for name in headers:
        usual = draw(st.integers(0, 4)) > 0
        value = VALUES[name][0] if usual else draw(st.sampled_from(VALUES[name]))
        written = name if name != "gpgsig" or draw(st.integers(0, 4)) else draw(st.sampled_from(NAMES))
        lines.append(written.encode() + draw(st.sampled_from((b" ", b" ", b" ", b" ", b""))) + value)
    end = draw(st.sampled_from((b"\n\nsubject\n\nbody\n", b"\n\n", b"\n\n\n\n", b"\n", b"", b"\n\n\xff\xfe")))
    return b"\n".join(lines) + end


@settings(max_examples=2000, deadline=None)
@given(commits(), st.sampled_from(("0" * 40, "0" * 64)))
def test_a_commit_recognised_at_sight_is_split_as_header_by_header(raw: bytes, object_id: str) -> None:
    assert parse_commit(object_id, raw) == parse_any(object_id, raw)


@pytest.mark.parametrize("signature", [b"gpgsig", b"gpgsig-sha256"])
@pytest.mark.parametrize("size", [MAX_COMMIT_BYTES, MAX_COMMIT_BYTES + 1])
def test_a_large_commit_is_split_alike(signature: bytes, size: int) -> None:
    head = b"tree %s\nauthor %s\ncommitter %s\n%s x\n y\n\n" % (ID, PERSON, PERSON, signature)
    raw = head.ljust(size, b"m")
    found = parse_commit("0" * 40, raw)
    assert found == parse_any("0" * 40, raw)
    assert bool(found.flaw) == (size > MAX_COMMIT_BYTES or signature != b"gpgsig")
