"""TreeReconciler: the files of a working tree → applied, in development; verified by nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from pydantic import BaseModel

from livecfg.errors import RefusedError
from livecfg.loader import load
from livecfg.revision import Objects, Revision
from livecfg.scope import UnsafeTree
from livecfg.trust.policy import protected_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from livecfg.refusal import Refusal
    from livecfg.scope import Scope
    from livecfg.snapshot import Snapshot

M = TypeVar("M", bound=BaseModel)


class TreeLike(Protocol):
    """What the reconciler needs of a working tree."""

    @property
    def objects(self) -> Objects:
        """The files of the last `snapshot_id`."""
        ...

    def tree_id(self) -> str:
        """Hash the files as they are now."""
        ...


class TreeReconciler(Generic[M]):
    """Follows a working tree that nobody verified, in development: the same `reconcile`, no trust, no memory."""

    def __init__(
        self,
        tree: TreeLike,
        scope: Scope[M],
        *,
        prepare: Callable[[Snapshot[M] | None, Snapshot[M]], None],
        swap: Callable[[Snapshot[M]], None],
    ) -> None:
        self._tree = tree
        self._scope = scope
        self._prepare = prepare
        self._swap = swap
        self._snapshot: Snapshot[M] | None = None
        self._refused: tuple[str, tuple[Refusal, ...]] = ("", ())
        self.desired: Revision | None = None
        self.notes: tuple[str, ...] = ()

    def stale(self, now: float) -> str:  # noqa: ARG002 - the shape of Reconciler
        """Files have no heartbeats."""
        return ""

    def inherit(self, snapshot: Snapshot[M] | None) -> None:
        """Go on from a snapshot that this process already serves."""
        self._snapshot = snapshot

    def resume(self) -> bool:
        """There is nothing to resume from: the files are read again."""
        return False

    @property
    def overrides(self) -> tuple[str, ...]:
        """Names of the local settings in force."""
        return self._scope.local

    def is_due(self, now: float) -> bool:
        """Whether the files must be loaded again though they are the same."""
        return self._scope.is_due(now)

    def reconcile(self, now: float) -> tuple[Refusal, ...]:
        """Load the files when they changed.

        Raises:
            FetchError: the directory could not be read.
            RefusedError: what is in the files cannot be applied, or policy protects this environment.

        """
        renewed = self.is_due(now)
        if renewed:
            self._scope.secrets.look()
            self._scope = self._scope.at(now)
        tree = self._tree.tree_id()
        self.desired = Revision("working-tree", tree)
        if self._snapshot is not None and self._snapshot.revision.commit == tree and not renewed:
            return ()
        if tree == self._refused[0] and not renewed:
            raise RefusedError(*self._refused[1])
        try:
            protected = protected_of(self._tree.objects, tree)
            if self._scope.process.env in protected.envs:
                raise RefusedError(protected.unverified(self._scope.process.env))
            snapshot = load(UnsafeTree(self.desired, tree), self._tree.objects, self._scope, before=self._snapshot)
            self._prepare(self._snapshot, snapshot)
        except RefusedError as error:
            self._refused = (tree, error.refusals)
            raise
        self._swap(snapshot)
        self._snapshot = snapshot
        return ()

    def contains(self, commit: str) -> bool:
        """Tell whether what is applied is this tree."""
        return self._snapshot is not None and self._snapshot.revision.commit.startswith(commit)
