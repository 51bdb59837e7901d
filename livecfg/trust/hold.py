"""LIVECFG_HOLD: which commit of the ref it names, and what is served where trust is past that one already."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from livecfg.errors import MissingObjectError, RefusedError
from livecfg.refusal import Code, Refusal
from livecfg.revision import Candidate
from livecfg.trust.history import Ancestry
from livecfg.trust.root import Trusted
from livecfg.trust.verify import verify

if TYPE_CHECKING:
    from livecfg.revision import Objects
    from livecfg.trust.root import Good
    from livecfg.trust.verify import VerifiedCommit


class Hold:
    """Nothing after one revision, named by its id or by at least 7 digits of it; an empty name holds nothing."""

    def __init__(self, name: str, ref: str) -> None:
        self.name = name
        self._ref = ref
        self._ancestry = Ancestry()
        self._commit = ""
        self._revision: tuple[VerifiedCommit, Good] | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is not known yet which commit is meant."""
        return bool(self.name) and not self._commit

    def on(self, objects: Objects, tip: str) -> str:
        """Give the whole id of the held commit, which stands on the chain of `tip`.

        Raises:
            RefusedError: there is no such commit, or more than one; guessing would serve what the hold is to keep out.

        """
        found = self._named(objects, tip)
        if len(found) != 1:
            raise self._refused(f"names {'more than one' if found else 'no'} commit of {self._ref} as it is here", tip)
        self._commit = found[0]
        return self._commit

    def before(self, objects: Objects, commit: str) -> str:
        """Give the whole id of the held commit where `commit` stands on it; empty where it does not."""
        found = self._named(objects, commit) if self.name else ()
        return found[0] if len(found) == 1 and found[0] != commit else ""

    def revision(self, objects: Objects, trusted: Trusted, held: str) -> tuple[VerifiedCommit, Good]:
        """Give the newest authorised revision up to the held one, by a walk from where trust begins; it is walked once.

        Raises:
            RefusedError: policy allows none up to there, or the history does not reach that far.
            FetchError: the disk did not give it; nothing is decided.

        """
        if self._revision is None:
            start = Trusted.start(trusted.root, trusted.ref)
            try:
                walk = verify(Candidate(trusted.ref, held, objects), start, math.inf)  # when it was judged, its time had come
            except (MissingObjectError, RefusedError) as error:  # a shallow mirror, or it is older than the pinned anchor
                raise self._refused("lies before what can be verified here", held) from error
            if walk.good is None or walk.trusted.good is None:
                raise self._refused("comes before every commit that policy allows", held)
            self._revision = walk.good, walk.trusted.good
        return self._revision

    def _named(self, objects: Objects, tip: str) -> tuple[str, ...]:
        return self._ancestry.named(objects, self._commit or self.name, tip)

    def _refused(self, why: str, commit: str) -> RefusedError:
        advice = f"nothing newer is applied; name a commit of `git log --first-parent {self._ref}`, or remove the variable"
        return RefusedError(Refusal(Code.HOLD, why, commit=commit, path=f"LIVECFG_HOLD={self.name}", advice=advice))
