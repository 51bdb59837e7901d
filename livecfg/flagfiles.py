"""FlagFiles: the segments, flags and experiments of one tree for one process; what has the same bytes as before is shared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from pydantic import BaseModel

from livecfg.document import Document, read
from livecfg.errors import RefusedError
from livecfg.flags.experiment import apply_experiments
from livecfg.flags.file import read_flags
from livecfg.flags.flag import disabled
from livecfg.flags.segment import ENDING, PREFIX, Segment, read_segment
from livecfg.flags.targeting import Dialect
from livecfg.flags.templates import Templates
from livecfg.parts import Assembled
from livecfg.refusal import Code, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from livecfg.flags.compiled import CompiledFlag
    from livecfg.flags.file import FlagFile
    from livecfg.parts import Made, Parts
    from livecfg.reading import Reading
    from livecfg.revision import Objects
    from livecfg.scope import Scope

    _Flags = dict[str, Made[FlagFile]]

M = TypeVar("M", bound=BaseModel)
V = TypeVar("V")


class FlagFiles(Generic[M]):
    """One load's; `parts` takes what is made, `old` lends what was made before. Faults go to those of `reading`."""

    def __init__(self, reading: Reading, objects: Objects, scope: Scope[M], parts: Parts, old: Parts | None) -> None:
        self.reading = reading
        self.objects = objects
        self.scope = scope
        self.parts = parts
        self.old = old
        self.manifest = parts.manifest[1]
        self.faults = reading.faults
        self.before: _Flags = {}
        self.segments = self._segments()
        """By the name that a rule refers to them with."""

    def _segments(self) -> dict[str, Segment]:
        """The segments of this process, by the name that a rule refers to them with."""
        if not self.manifest.segments:
            return {}
        most = self.scope.limits.lowered_by(self.manifest.limits).segment_bytes
        old = self.old.segments if self.old is not None else {}
        segments: dict[str, Segment] = {}
        owner: dict[str, str] = {}
        for path, blob in self.reading.documents(self.manifest.segments, (ENDING,)):
            made = self.reading.made(path, blob, old, self.parts.segments, lambda d, p=path, b=blob: read_segment(d, p, b, most))  # type: ignore[misc]  # bound now
            if made is None:
                continue
            if PREFIX + made.name in segments:
                message = f"the segment {made.name!r} stands in {owner[made.name]} too"
                self.faults.append(Refusal(Code.SEGMENT_INVALID, message, path=path, advice="rename one of them"))
            segments[PREFIX + made.name], owner[made.name] = made, path
        return segments

    def with_same_segments(self, old: dict[str, Made[V]], dialects: Callable[[V], Sequence[Dialect]]) -> dict[str, Made[V]]:
        """Leave out what was made with a segment that is another now."""
        if self.old is None or self.old.segments == self.parts.segments:
            return old

        def same(dialect: Dialect) -> bool:
            return all(self.segments.get(n) == s for n, s in dialect.evaluators.items() if isinstance(s, Segment))

        return {path: known for path, known in old.items() if all(map(same, dialects(known.product)))}

    def flags(self) -> Mapping[str, CompiledFlag]:
        """Give the flags of all files by key, under the experiments, those switched off here and now as DISABLED."""
        old = self.old.flags if self.old is not None and self.old.manifest[0] == self.parts.manifest[0] else {}
        self.before = old
        self.parts.dialect = alone = self._dialect()
        self.dialect = alone._replace(evaluators=self.segments) if self.segments else alone
        self.templates = self._templates(alone)
        same = self.with_same_segments(old, lambda made: [flag.dialect for flag in made.flags.values()])
        made = self._changed_flags(same) or self._all_flags({**same, **self.parts.flags})
        self.parts.assembled = made
        self.parts.templates.append(self.templates)
        flags = self._under_experiments(made.flags)
        self.faults += self._undeclared(flags)
        off = {key: disabled(flags[key]) for key in self.scope.killed & flags.keys()}
        return {**flags, **off} if off else flags

    def _dialect(self) -> Dialect:
        """Give what flags are read by, segments aside: the very object of the load before, where it is the same."""
        static = self.scope.process.attributes
        new = Dialect(self.manifest.fractional, self.manifest.gate, static, {}, self.scope.clock)
        old = self.old.dialect if self.old is not None else None
        return old if old is not None and old.same(new) else new

    def _templates(self, alone: Dialect) -> Templates:
        """Take those of the load before, which no other load finds then, where they are of the same dialect."""
        if self.old is None or self.old.dialect is not alone:
            return Templates()
        try:
            taken = self.old.templates.pop()
        except IndexError:
            return Templates()
        return taken if taken.have_room() else Templates()

    def _made(self, path: str, blob: str, old: _Flags) -> Mapping[str, CompiledFlag]:
        """Give the flags of one file."""
        limits, known = self.reading.document_limits, self.before.get(path)
        before = known.product if known is not None else None
        if before is not None and path not in old:  # another segment: each of its flags is looked at
            before = before._replace(members=None)

        def make(data: bytes) -> FlagFile:
            return read_flags(data, path, limits, self.dialect, before, self.templates)

        made = self.reading.made(path, blob, old, self.parts.flags, make)
        return made.flags if made is not None else {}

    def _changed_flags(self, old: _Flags) -> Assembled | None:
        """The flags of the load before, with those of the changed files; None when files or keys came or went, or on a fault."""
        if self.old is None or self.old.assembled is None or old is not self.old.flags:
            return None
        changed = self.reading.changed(self.manifest.flags)
        if changed is None:
            return None
        mark = self.reading.mark()
        flags, _, size_bytes = self.old.assembled
        size_bytes -= sum(old[path].size_bytes for path, _ in changed)
        fits = self.reading.spend("", size_bytes, len(old) - len(changed))
        if fits and not changed:
            self.parts.flags = old
            return self.old.assembled
        self.parts.flags = dict(old)
        fresh: dict[str, CompiledFlag] = {}
        for path, blob in changed:
            made = self._made(path, blob, old)
            fits = fits and [*made] == [*old[path].product.flags]
            size_bytes += self.parts.flags[path].size_bytes
            fresh |= made
        if not fits:
            self.reading.back(mark)  # all are looked at, and faults met again
            return None
        return Assembled({**flags, **fresh}, {}, size_bytes)

    def _all_flags(self, old: _Flags) -> Assembled:
        flags: dict[str, CompiledFlag] = {}
        owner: dict[str, str] = {}
        for path, blob in self.reading.documents(self.manifest.flags):
            for key, flag in self._made(path, blob, old).items():
                if key in flags:
                    advice = "keep it in one of them"
                    message = f"the flag {key!r} stands in {owner[key]} too"
                    self.faults.append(Refusal(Code.FLAG_REFERENCE, message, path=path, advice=advice))
                flags[key], owner[key] = flag, path
        size_bytes = sum(made.size_bytes for made in self.parts.flags.values())
        return Assembled(flags, {}, size_bytes)

    def _undeclared(self, flags: Mapping[str, CompiledFlag]) -> list[Refusal]:
        """Faults of the flags that the application's code declares: missing, or of another type."""
        faults = []
        for key, default in sorted(self.scope.flags.items()):
            flag = flags.get(key)
            if flag is None:
                message = f"the application declares the flag {key!r}, which is in no file"
                faults.append(Refusal(Code.FLAG_REFERENCE, message, advice="add it under flags/, or remove the declaration"))
                continue
            wrong = next((name for name, value in flag.variants.items() if not _fits(default, value)), None)
            if wrong is not None:
                path, blob = next((path, blob) for path, (blob, made, _) in self.parts.flags.items() if key in made.flags)
                document = read(self.objects.read(blob, "blob"), path)
                message = f"the application declares the flag {key!r} as {type(default).__name__}; this variant is none"
                advice = "change the variant or the declaration"
                faults.append(
                    document.refusal(Code.FLAG_REFERENCE, (*flag.definition.loc, "variants", wrong), message, advice=advice)
                )
        return faults

    def _under_experiments(self, flags: Mapping[str, CompiledFlag]) -> Mapping[str, CompiledFlag]:
        """Apply the experiments of this process to the flags they name."""
        if not self.manifest.experiments:
            return flags
        old = self.old.experiments if self.old is not None else {}
        paths = self.reading.documents(self.manifest.experiments)
        made = [self.reading.product(path, blob, old, self.parts.experiments, _whole) for path, blob in paths]
        documents = [d for d in made if d is not None]
        if self.faults or not documents:
            return flags
        try:
            static = self.scope.process.attributes
            return apply_experiments(documents, flags, static=static, clock=self.scope.clock, segments=self.segments)
        except RefusedError as error:
            self.faults += error.refusals
            return flags


def _whole(document: Document) -> Document:
    return document


def _fits(default: object, value: object) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, int | float)
    return default is None or isinstance(value, type(default))
