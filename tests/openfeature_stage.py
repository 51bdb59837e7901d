"""What tests behind the real OpenFeature client stand on: a LiveConfig over given flags, providers in every condition, hooks."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from typing import TYPE_CHECKING, Any

from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.flag_evaluation import FlagEvaluationOptions
from openfeature.hook import Hook
from openfeature.provider import ProviderStatus
from pydantic import BaseModel

from livecfg import GitSource, LiveConfig, UnsafeNoVerification
from livecfg.openfeature import LivecfgProvider
from tests.e2e.support import eventually
from tests.simulator import ConfigRepo

if TYPE_CHECKING:
    from pathlib import Path

    from openfeature.client import OpenFeatureClient
    from openfeature.track import TrackingEventDetails

MANIFEST = "version: 1\nlayers: [base.yaml]\nflags: [flags.json]\ngate: flagd\nfractional: {}\n"


class Config(BaseModel, frozen=True):
    """No configuration."""


class Seeing(LivecfgProvider):
    """Remembers the context and the event that reached it."""

    seen: EvaluationContext | None = None
    tracked: str | None = None

    def _resolve(self, flag_key: str, default_value: Any, evaluation_context: EvaluationContext | None = None) -> Any:
        self.seen = evaluation_context
        return super()._resolve(flag_key, default_value, evaluation_context)

    resolve_boolean_details = resolve_string_details = resolve_integer_details = _resolve

    def track(
        self,
        tracking_event_name: str,
        evaluation_context: EvaluationContext | None = None,
        tracking_event_details: TrackingEventDetails | None = None,
    ) -> None:
        self.tracked = tracking_event_name
        super().track(tracking_event_name, evaluation_context, tracking_event_details)


class Waiting(LivecfgProvider):
    """Is not ready before it is let go."""

    def __init__(self, live: LiveConfig[Any]) -> None:
        super().__init__(live)
        self.go = threading.Event()

    def initialize(self, evaluation_context: EvaluationContext) -> None:
        assert self.go.wait(60)
        super().initialize(evaluation_context)


class Noting(Hook):
    """Notes what it was called with; adds to the context before."""

    def __init__(self, adds: dict[str, Any] | None = None, order: list[Hook] | None = None) -> None:
        self.adds = adds
        self.order = [] if order is None else order
        self.calls: dict[str, Any] = {}

    def before(self, hook_context: Any, hints: Any) -> EvaluationContext | None:  # noqa: ARG002 - the SDK's
        self.calls["before"] = hook_context
        self.order.append(self)
        return EvaluationContext(attributes=self.adds) if self.adds else None

    def after(self, hook_context: Any, details: Any, hints: Any) -> None:  # noqa: ARG002 - the SDK's
        self.calls["after"] = details

    def error(self, hook_context: Any, exception: Exception, hints: Any) -> None:  # noqa: ARG002 - the SDK's
        self.calls["error"] = exception

    def finally_after(self, hook_context: Any, details: Any, hints: Any) -> None:  # noqa: ARG002 - the SDK's
        self.calls["finally"] = details


def files(flags: Any, fractional: str) -> dict[str, str | bytes | None]:
    return {"livecfg.yaml": MANIFEST.format(fractional), "base.yaml": "{}\n", "flags.json": json.dumps(flags)}


class Stage:
    """A LiveConfig over the given flags, and providers in other conditions beside it.

    It follows a working tree; with `remote` a signed repository, which `lose` takes away and `restore` brings back.
    """

    def __init__(self, root: Path, flags: Any, fractional: str = "v2", *, remote: bool = False) -> None:
        self.root, self.flags, self.fractional = root, flags, fractional
        self.repo: ConfigRepo | None = None
        self.others: list[LiveConfig[Any]] = []
        if remote:
            self.repo = ConfigRepo(root / "repo")
            self.repo.found({name: text for name, text in files(flags, fractional).items() if text is not None})
            self.repo.push()
            source = GitSource(url=str(self.repo.remote_path))
            settings: dict[str, Any] = {"source": source, "trusted_root": self.repo.trusted_root, "home": root / "home"}
            self.live = LiveConfig(Config, service="shop", env="dev", poll_interval_s=0.2, max_staleness_s=1.0, **settings)
        else:
            self.write(flags)
            self.live = self.following(root, poll_interval_s=0.2)
        ticks = itertools.count()
        self.provider = Seeing(self.live, clock=lambda: float(next(ticks)))  # looks for staleness at every evaluation
        self.waiting = Waiting(self.live)
        api.set_provider_and_wait(self.provider)

    def write(self, flags: Any) -> None:
        for name, text in files(flags, self.fractional).items():
            (self.root / name).write_text(str(text))

    def following(self, root: Path, **settings: Any) -> LiveConfig[Any]:
        return LiveConfig(Config, source=UnsafeNoVerification(root), service="shop", env="dev", **settings)

    def change(self, flags: Any) -> None:
        assert self.repo is None
        self.write(flags)

    def lose(self) -> None:
        assert self.repo is not None
        self.repo.remote_path.rename(self.root / "lost")

    def restore(self) -> None:
        assert self.repo is not None
        (self.root / "lost").rename(self.repo.remote_path)

    def client(self, provider: str = "stable") -> OpenFeatureClient:
        """Give a client whose provider is stable, not ready, in error, fatal or stale."""
        if provider == "stable":
            return api.get_client()
        if provider == "not ready":
            api.set_provider(self.waiting, provider)
            return api.get_client(provider)
        made = {
            "error": lambda: self.following(self.root / "nowhere", start_timeout_s=0.1),
            "fatal": lambda: LiveConfig(Config, source=UnsafeNoVerification(self.root), service="not a name"),
            "stale": lambda: self.following(self.root, max_staleness_s=-1.0),
        }[provider]()
        self.others.append(made)
        api.set_provider(LivecfgProvider(made), provider)
        client = api.get_client(provider)

        def there() -> bool:
            client.get_boolean_value("any", False)  # noqa: FBT003 - the SDK's signature; staleness is seen at an evaluation
            return client.get_provider_status() is ProviderStatus(provider.upper())

        eventually(there)
        return client

    def end(self) -> None:
        self.waiting.go.set()
        api.clear_providers()
        api.clear_hooks()
        api.set_evaluation_context(EvaluationContext())
        api.set_transaction_context(EvaluationContext())
        for live in (self.live, *self.others):
            live.stop()


def context_of(attributes: dict[str, Any]) -> EvaluationContext:
    """Give the context with the unit in its own field where it is a text; what is none stays an attribute."""
    unit = attributes.get("targetingKey")
    if not isinstance(unit, str):
        return EvaluationContext(attributes=attributes)
    return EvaluationContext(unit, {k: v for k, v in attributes.items() if k != "targetingKey"})


def asked(client: OpenFeatureClient, case: dict[str, Any]) -> tuple[Any, Any]:
    """Ask by the synchronous and by the asynchronous method."""
    name, rest = case["type"], (case["flag"], case["default"], context_of(case.get("context", {})))
    later = getattr(client, f"get_{name}_details_async")
    return getattr(client, f"get_{name}_details")(*rest), asyncio.run(later(*rest))


def merged(stage: Stage, entries: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Evaluate with entries at the named levels; gives what reached the provider."""
    client = stage.client()
    api.set_evaluation_context(EvaluationContext(attributes=entries.get("API", {})))
    api.set_transaction_context(EvaluationContext(attributes=entries.get("Transaction", {})))
    client.context = EvaluationContext(attributes=entries.get("Client", {}))
    options = FlagEvaluationOptions(hooks=[Noting(entries.get("Before Hooks"))])
    client.get_boolean_value("beta", False, EvaluationContext(attributes=entries.get("Invocation", {})), options)  # noqa: FBT003 - the SDK's signature
    assert stage.provider.seen is not None
    return dict(stage.provider.seen.attributes)
