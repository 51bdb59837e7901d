"""Templates: what was read of one rule, for the next rule of the same form, which only fills in its constants.

A template is made by the reader itself, of a form with markers in its holes; a form of which the reader does not keep every
marker as one constant or result makes none. What fits no template is read by `targeting`, and so is the first rule of its kind,
and whatever has faults. There are only so many templates: a process takes them from load to load until they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from livecfg.flags.bucketing import MAX_TOTAL
from livecfg.flags.constants import KEY, SHORT, alike, places_of, shares_of, short_key
from livecfg.flags.forms import WEIGHT, Outline, Sort, UnfitError
from livecfg.flags.targeting import Reader, TooLargeError

if TYPE_CHECKING:
    from types import CodeType

    from livecfg.flags.targeting import Dialect, Node

T = TypeVar("T")
_Pick = Callable[[Sequence[Any]], tuple[Any, ...]]
MOST_OPERATIONS = 100
"""Beyond this many a rule is always read: one that long is hardly like another."""
_MOST_BUCKETS = 1_000
_MOST_TRIES = 16
_MOST_KINDS = 64
_MOST_USES = 10_000
_OWN = object()
"""The source of a constant that the reader did not make of anything in the rule."""


class Known(NamedTuple):
    """A rule by its template: what `read_rule` gives, less what only faults and explanations need."""

    shape: Node
    constants: tuple[Any, ...]
    results: tuple[Any, ...]
    """What each leaf gives."""
    codes: dict[Any, tuple[CodeType, tuple[str, ...], tuple[int, ...]]]
    """For who makes flags of it: code that was made for the shape before."""


class Fitted(NamedTuple):
    """A rule that fits a template, and is known as soon as somebody asks for its flag."""

    template: _Template | None
    pool: tuple[Any, ...]

    def results(self) -> tuple[Any, ...]:
        """Give what each leaf gives."""
        return self.template.results(self.pool) if self.template is not None else _NO_RULE.results

    def known(self) -> Known | None:
        """Give the rule; None where its form has come in too many kinds, so that it must be read."""
        return self.template.known(self.pool) if self.template is not None else _NO_RULE


_NO_RULE = Known(((), ("leaf", 0), ()), (), (None,), {})
STATIC = Fitted(None, ())
"""The rule of a flag that has none: the default variant for everybody."""


class Templates:
    """The templates of one gate, one set of static attributes, one clock; for one load at a time.

    They lie in buckets, by the way to a rule's first leaf, so that a rule is compared with few of them.
    """

    def __init__(self) -> None:
        self._buckets: dict[tuple[Any, ...], list[_Template | None]] = {}
        self._is_full = False
        self.uses = set[tuple[Any, ...]]()
        """For who makes flags: what a flag is like, beside its constants, whose code has been compiled."""

    def have_room(self) -> bool:
        """Tell whether the next load may go on with them: rules of long ago keep none of today's out."""
        return not self._is_full and len(self.uses) < _MOST_USES

    def fitted(self, raw: Any, key: str, dialect: Dialect) -> Fitted | None:
        """Fit the rule of the flag `key` to a template, or to that of its own if it is not the first in its bucket.

        None where the rule must be read.
        """
        way = _way(raw, dialect.fractional)
        bucket = self._buckets.get(way)
        if bucket is None:
            if len(self._buckets) < _MOST_BUCKETS:
                self._buckets[way] = []
            else:
                self._is_full = True
            return None
        for template in bucket:
            fitted = template.fitted(raw, key) if template is not None else None
            if fitted is not None:
                return fitted
        if len(bucket) >= _MOST_TRIES:
            self._is_full = True
            return None
        template = _learned(raw, key, dialect)
        bucket.append(template)
        return template.fitted(raw, key) if template is not None else None


def _way(raw: Any, fractional: str) -> tuple[Any, ...]:
    """Give the operators, and the numbers of their operands, on the way to the first leaf of a rule; a variable's name too."""
    way: list[Any] = [fractional]
    while type(raw) is dict and len(raw) == 1:
        ((name, raw),) = raw.items()
        way.append(name)
        if name == "var":
            way.append(raw if type(raw) is str else None)
            break
        while type(raw) is list and raw:
            way.append(len(raw))
            raw = raw[0]
    return tuple(way)


class _LostError(Exception):
    """A marker that the reader did not keep as it was expected to."""


def _learned(raw: Any, key: str, dialect: Dialect) -> _Template | None:
    """Make the template of a rule; None where it has no form, or the reader does more with a marker than to keep it."""
    outline, faults = Outline(), list[Any]()
    reader = Reader(key, dialect, lambda *fault: faults.append(fault))
    try:
        form, marked = outline.rule(raw, tail=True)
        tree = reader.tail(marked, ())
        if faults or reader.used or len(reader.notes) > MOST_OPERATIONS:
            return None
        return _Template(form, outline, reader, tree, dialect.fractional)
    except (UnfitError, _LostError, TooLargeError, RecursionError):
        return None


class _Template:
    """A form, and how the constants of a rule are made of what its holes took.

    All that they are made of lies in one pool: what the holes took, the key of the flag, what is the same in every rule of the
    form; when the flag is first asked for, what the reader makes of some of that, what a fractional without a unit makes of the
    key, and the shares of each fractional. Parameters are picked from there.
    """

    def __init__(self, form: Any, outline: Outline, reader: Reader, tree: Node, fractional: str) -> None:
        self._form = form
        self._seen = outline.seen
        self._types = [sort.kind for sort in outline.holes]
        self._checks = [(fits, _picker(holes)) for fits, holes in _holes_by(outline, lambda sort: sort.fits)]
        self._variables, self._tree = reader.variables(), tree
        self._fractional = fractional
        self._kinds: dict[tuple[bool, ...], tuple[Node, _Pick, dict[Any, Any]]] = {}
        pool = _Pool(outline, sum(len(weights) for _, weights in reader.drawn))
        self._made = pool.made
        self._key = pool.key
        self.results = _picker([pool.result(leaf.result) for leaf in reader.leaves])
        self._weights = [_picker([pool.weight(w) for w in weights]) for _, weights in reader.drawn]
        self._order = pool.order(reader)
        self._fixed = pool.fixed
        self._groups = [group for group in reader.groups.values() if len(group) > 1]
        self._members = [_picker([self._order[number] for number in group]) for group in self._groups]

    def fitted(self, raw: Any, key: str) -> Fitted | None:
        """Fit the rule of the flag `key`; None where it is not of this form, or where the reader must say more about it."""
        seen = self._seen
        seen.clear()
        fits = self._form == raw and list(map(type, seen)) == self._types
        pool = (*seen, key, *self._fixed)
        seen.clear()  # a template outlives the document
        if not fits:
            return None
        for check, pick in self._checks:
            if not all(map(check, pick(pool))):
                return None
        for pick in self._weights:
            weights = pick(pool)
            if min(weights) < 0 or not 0 < sum(weights) <= MAX_TOTAL:
                return None
        return Fitted(self, pool)

    def known(self, fitted: tuple[Any, ...]) -> Known | None:
        """Give the rule that was fitted; None where it must be read."""
        pool = [*fitted]
        for made, pick in self._made:
            pool += map(made, pick(fitted))
        pool.append(short_key(fitted[self._key], self._fractional))
        for pick in self._weights:
            pool += shares_of(pick(fitted))
        same = tuple([alike(pick(pool)) for pick in self._members])
        kind = self._kinds.get(same)
        if kind is None:
            if len(self._kinds) >= _MOST_KINDS:
                return None
            places, firsts = places_of([pool[i] for i in self._order], self._groups)
            shape = (self._variables, self._tree, places)
            kind = self._kinds[same] = (shape, _picker([self._order[number] for number in firsts]), {})
        shape, pick, codes = kind
        return Known(shape, pick(pool), self.results(fitted), codes)


def _holes_by(outline: Outline, of: Callable[[Sort], T | None]) -> list[tuple[T, list[int]]]:
    """Give the holes of each check, or of each function that makes constants."""
    found: dict[T, list[int]] = {}
    for i, sort in enumerate(outline.holes):
        what = of(sort)
        if what is not None:
            found.setdefault(what, []).append(i)
    return list(found.items())


class _Pool:
    """Finds the markers in what the reader kept, and where in the pool everything will lie.

    What comes into the pool last is counted from its end: made constants, the short key, the shares.
    """

    def __init__(self, outline: Outline, shares: int) -> None:
        self.fixed: list[Any] = []
        self.made: list[tuple[Callable[[Any], Any], _Pick]] = []
        """What makes constants of what some holes took, and what picks that."""
        self.key = len(outline.holes)
        self._shares = -shares
        self._short = self._shares - 1
        self._places = list(range(len(outline.holes)))
        late = []
        for made, holes in _holes_by(outline, lambda sort: sort.made):
            self.made.append((made, _picker(holes)))
            late += holes
        for place, hole in enumerate(late, self._short - len(late)):
            self._places[hole] = place
        self._lost = {id(marker): i for i, marker in enumerate(outline.markers)}
        dug = zip(outline.holes, outline.markers, strict=True)
        self._weights = {marker: marker for sort, marker in dug if sort is WEIGHT}

    def index(self, kept: Any, source: Any) -> int:
        """Give the place of what the reader kept, and made of `source`."""
        hole = self._lost.pop(id(source), None)
        return self._places[hole] if hole is not None else self._fix(kept)

    def result(self, result: Any) -> int:
        """Give the place of what a leaf gives.

        Raises:
            _LostError: the place of what is made later than results are looked at.

        """
        place = self.index(result, result)
        if place < 0:
            raise _LostError
        return place

    def weight(self, weight: int) -> int:
        """Give the place of a weight, which may be another object than the marker that it was made of."""
        return self.index(weight, self._weights.get(weight, weight))

    def order(self, reader: Reader) -> list[int]:
        """Give the place of each constant.

        Raises:
            _LostError: a marker that the reader did not keep, or kept for what belongs to the form.

        """
        shares = sorted(first + i for first, weights in reader.drawn for i in range(len(weights)))
        order = dict(zip(shares, range(self._shares, 0), strict=True))
        order |= {n: self._constant(n, value, reader) for n, value in enumerate(reader.constants) if n not in order}
        if self._lost:
            raise _LostError
        return [order[number] for number in range(len(order))]

    def _constant(self, number: int, value: Any, reader: Reader) -> int:
        source = reader.sources.get(number, _OWN)
        if source is KEY:
            return self.key
        if source is SHORT:
            return self._short
        return self._fix(value) if source is _OWN else self.index(value, source)

    def _fix(self, value: Any) -> int:
        self.fixed.append(value)
        return self.key + len(self.fixed)


def _picker(indexes: list[int]) -> _Pick:
    """Give a function that picks those items."""
    if len(indexes) > 1:
        return itemgetter(*indexes)
    if not indexes:
        return lambda _: ()
    (only,) = indexes
    return lambda pool: (pool[only],)
