"""Live, typed, signed configuration and feature flags, straight from Git.

An application holds one `LiveConfig`. `live.current` is a `Snapshot`: one verified revision, immutable. `snapshot.view(context)`
is that revision for one unit (a user, a request): its config, its flags, its arms of splits. `live.status` says how it goes.

Reading order for the code: `reconciler.py` (Git → memory), `flags/evaluate.py` (what a caller gets), `trust/verify.py` (what may
reach the parser).
"""

from livecfg.client import LiveConfig
from livecfg.errors import FetchError, LivecfgError, RefusedError
from livecfg.flags.context import EvaluationContext
from livecfg.flags.evaluate import Evaluation, Reason
from livecfg.flagset import Flag, FlagSet
from livecfg.git.source import GitSource, UnsafeNoVerification
from livecfg.origin import Origin
from livecfg.refusal import Refusal
from livecfg.resolver import SecretSources
from livecfg.revision import Revision
from livecfg.snapshot import Arm, Snapshot, View
from livecfg.status import Condition, Status

__all__ = [
    "Arm",
    "Condition",
    "Evaluation",
    "EvaluationContext",
    "FetchError",
    "Flag",
    "FlagSet",
    "GitSource",
    "LiveConfig",
    "LivecfgError",
    "Origin",
    "Reason",
    "Refusal",
    "RefusedError",
    "Revision",
    "SecretSources",
    "Snapshot",
    "Status",
    "UnsafeNoVerification",
    "View",
]
