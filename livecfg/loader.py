"""load(): the files of a verified commit → Snapshot; all or nothing, and only what changed is read again.

Rules. Only a `VerifiedCommit` (or a tree whose name says it is not verified) gets in, so unverified bytes cannot reach the
parser. Only the scope of the process is read: the layers, flags, splits and files that the manifest of that very commit
names for it. The faults of the revision are collected and reported together, up to a hundred. Whatever has the same blob id as
in the snapshot before is shared with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel

from livecfg.document import Document, Loc, Position, read
from livecfg.errors import RefusedError
from livecfg.layers import TAGS, Manifest, merge
from livecfg.parts import Parts, explainer
from livecfg.reading import Reading
from livecfg.refusal import Code, Refusal, first_of
from livecfg.scope import UnsafeTree
from livecfg.secrets import resolve, secrets_in, withhold
from livecfg.snapshot import Arm, Snapshot
from livecfg.sops import decrypt, is_encrypted
from livecfg.trust.policy import protected_of
from livecfg.trust.tree import lookup
from livecfg.validation import validate, validate_value

if TYPE_CHECKING:
    from livecfg.flags.split import CompiledSplit
    from livecfg.layers import Merged
    from livecfg.revision import Objects
    from livecfg.scope import Scope
    from livecfg.trust.verify import VerifiedCommit

MANIFEST_PATH = "livecfg.yaml"
M = TypeVar("M", bound=BaseModel)
V = TypeVar("V")


def load(
    commit: VerifiedCommit | UnsafeTree,
    objects: Objects,
    scope: Scope[M],
    before: Snapshot[M] | None = None,
) -> Snapshot[M]:
    """Build the Snapshot of a verified commit for one process; `before` lends what has not changed.

    Raises:
        RefusedError: the first hundred faults of the revision, each with file, line and column.
        FetchError: an object could not be read.

    """
    return _Load(commit, objects, scope, before).run()


class _Load(Generic[M]):
    def __init__(
        self,
        commit: VerifiedCommit | UnsafeTree,
        objects: Objects,
        scope: Scope[M],
        before: Snapshot[M] | None,
    ) -> None:
        self.revision = commit.revision
        self.tree = commit.tree
        self.history = None if isinstance(commit, UnsafeTree) else commit
        self.objects = objects
        self.scope = scope
        self.before = before
        self.old: Parts | None = before.parts if before is not None else None

    def run(self) -> Snapshot[M]:
        from livecfg.flagfiles import FlagFiles  # noqa: PLC0415 - keeps `import livecfg` light

        self.parts = Parts(self._manifest(), secrets_generation=self.scope.secrets.generation)
        limits = self.scope.limits.lowered_by(self.manifest.limits)
        self.reading = Reading(self.objects, self.tree, self.scope.process, limits, self.parts, self.old)
        self.faults = self.reading.faults
        self._check_local()
        config = self._config()
        self.flag_files = FlagFiles(self.reading, self.objects, self.scope, self.parts, self.old)
        flags = self.flag_files.flags()
        splits, arms = self._splits()
        files = self._files()
        if self.faults or config is None:
            raise RefusedError(*first_of(self.faults))
        assembled = self.parts.assembled
        return Snapshot(
            self.revision,
            config,
            files=files,
            flags=flags,
            serving=assembled.serving if assembled is not None and flags is assembled.flags else None,
            splits=splits,
            arms=arms,
            recorder=self.scope.recorder,
            explainer=explainer(self.parts, self.objects, self.history, self.scope.model),
            parts=self.parts,
        )

    @property
    def manifest(self) -> Manifest:
        return self.parts.manifest[1]

    def _manifest(self) -> tuple[str, Manifest]:
        entry = lookup(self.objects, self.tree, MANIFEST_PATH)
        if entry is None:
            advice = f"put a {MANIFEST_PATH} at the root of the repository; `livecfg init` writes one"
            raise RefusedError(Refusal(Code.MANIFEST, "the repository has no manifest", path=MANIFEST_PATH, advice=advice))
        if self.old is not None and self.old.manifest[0] == entry.id:
            return self.old.manifest
        document = read(self.objects.read(entry.id, "blob"), MANIFEST_PATH)
        return entry.id, validate(Manifest, document, Code.MANIFEST)

    # --- configuration ------------------------------------------------------------------------------------------------

    def _config(self) -> M | None:
        layers = [d for d in (self._layer(i, t) for i, t in enumerate(self.manifest.layers)) if d is not None]
        if self.faults:
            return None
        old = self.old.merged if self.old is not None else None
        if self.before is not None and old is not None and self._has_same(old, layers):
            self.parts.merged, self.parts.secrets = old, self.before.parts.secrets
            return self.before.config
        environment = self._environment()
        self.parts.merged = merged = merge([*layers, environment] if environment else layers)
        try:
            value = resolve(merged, self.scope.secrets)
            self.parts.secrets = tuple(secrets_in(value))
            return validate_value(self.scope.model, value, merged.locate)
        except RefusedError as error:
            self.faults += withhold(error.refusals, self.parts.secrets)
            return None

    def _has_same(self, old: Merged, layers: list[Document]) -> bool:
        """Whether nothing that the configuration is made of has changed: layers, and secrets that they refer to."""
        assert self.old is not None  # noqa: S101 - `old` is of it
        fresh = not self.old.secrets or self.old.secrets_generation == self.parts.secrets_generation
        return fresh and len(old.layers) == len(layers) and all(a is b for a, b in zip(old.layers, layers, strict=True))

    def _layer(self, index: int, template: str) -> Document | None:
        found = self.reading.find(template)
        if found is None:
            return None
        path, entry = found
        if entry is None:
            if index == 0:
                advice = f"the first layer of {MANIFEST_PATH} must exist; add the file or change the order"
                self.faults.append(Refusal(Code.MISSING_FILE, "the first layer is missing", path=path, advice=advice))
            return None
        old = self.old.layers if self.old is not None else {}
        return self.reading.product(path, entry.id, old, self.parts.layers, self._read_layer, TAGS)

    def _read_layer(self, document: Document) -> Document:
        if document.value is not None and not isinstance(document.value, dict):
            raise RefusedError(document.refusal(Code.WRONG_TYPE, (), "expected a mapping at the top of a layer"))
        return decrypt(document, self.scope.secrets) if is_encrypted(document.value) else document

    def _check_local(self) -> None:
        """Refuse local settings where policy protects what they touch."""
        if not self.scope.local:
            return
        process, protected = self.scope.process, protected_of(self.objects, self.tree)
        if process.env in protected.envs:
            advice = "remove the variable: what runs in a protected environment comes from signed commits alone"
            message = f"the environment {process.env} is protected"
            self.faults += [Refusal(Code.OVERRIDE, message, path=name, advice=advice) for name in self.scope.local]
            return
        touched = {f"LIVECFG_SET_{key.replace('.', '__')}": key for key in self.scope.overrides}
        touched |= {f"LIVECFG_KILL={key}": key for key in self.scope.killed}
        advice = "remove the variable: policy protects this from local settings"
        self.faults += [
            Refusal(Code.OVERRIDE, f"{key} is protected", path=name, advice=advice)
            for name, key in sorted(touched.items())
            if protected.covers(process.env, f"{process.service}.{key}")
        ]

    def _environment(self) -> Document | None:
        """The local overrides as one more layer, the last."""
        value: dict[str, Any] = {}
        for dotted, text in sorted(self.scope.overrides.items()):
            try:
                parsed = read(text.encode(), f"LIVECFG_SET_{dotted.replace('.', '__')}").value
            except RefusedError as error:
                self.faults += error.refusals
                continue
            inner = value
            *outer, last = dotted.split(".")
            for part in outer:
                inner = inner.setdefault(part, {})
            inner[last] = parsed
        return Document("environment", b"", value) if value else None

    # --- flags, splits, files -----------------------------------------------------------------------------------------

    def _splits(self) -> tuple[dict[str, CompiledSplit], dict[str, dict[str, Arm[Any]]]]:
        splits: dict[str, CompiledSplit] = {}
        arms: dict[str, dict[str, Arm[Any]]] = {}
        owner: dict[str, str] = {}
        old = self.flag_files.with_same_segments(self.old.splits if self.old is not None else {}, lambda made: [made[0].dialect])
        for path, blob in self.reading.documents(self.manifest.splits):
            product = self.reading.product(path, blob, old, self.parts.splits, self._read_split)
            if product is None:
                continue
            split, values = product
            if split.name in splits:
                message = f"the split {split.name!r} stands in {owner[split.name]} too"
                self.faults.append(Refusal(Code.SPLIT_INVALID, message, path=path, advice="keep it in one of them"))
            splits[split.name], arms[split.name], owner[split.name] = split, values, path
        if not self.faults:
            advice = "add a file under splits/, or remove the declaration from the code"
            self.faults += [
                Refusal(Code.SPLIT_MISSING, f"the application declares the split {name!r}, which is in no file", advice=advice)
                for name in sorted(self.scope.splits.keys() - splits.keys())
            ]
        return splits, arms

    def _read_split(self, document: Document) -> tuple[CompiledSplit, dict[str, Arm[Any]]]:
        from livecfg.flags.split import compile_split  # noqa: PLC0415 - keeps `import livecfg` light

        static = self.scope.process.attributes
        split = compile_split(document, static=static, clock=self.scope.clock, segments=self.flag_files.segments)
        model = self.scope.splits.get(split.name)
        if model is None:
            return split, {}
        faults: list[Refusal] = []
        arms: dict[str, Arm[Any]] = {}
        for name, value in split.arms.items():
            base: Loc = ("arms", name, "value")

            def locate(loc: Loc, at_key: bool, base: Loc = base) -> tuple[str, Position]:  # noqa: FBT001 - shape of Locate
                full = base + loc
                return document.path, document.key_position(full) if at_key else document.position(full)

            try:
                arms[name] = Arm(name, validate_value(model, value, locate))
            except RefusedError as error:
                faults += error.refusals
        if faults:
            raise RefusedError(*faults)
        return split, arms

    def _files(self) -> dict[str, bytes]:
        files: dict[str, bytes] = {}
        for name, template in self.manifest.files.items():
            path, entry = self.reading.find(template) or ("", None)
            data = self.reading.file(path, entry.id) if entry is not None else None
            if data is not None:
                files[name] = data
        return files
