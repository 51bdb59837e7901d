"""What the application believes about its configuration: models, splits, reactions. One `live` for the whole process."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pydantic import BaseModel, Field

from livecfg import GitSource, LiveConfig, Snapshot, UnsafeNoVerification

HERE = Path(__file__).parent


class Checkout(BaseModel, frozen=True):
    payment_timeout_s: float = Field(2.0, gt=0, le=30, description="Budget of the payment call")
    max_items: int = Field(50, ge=1, description="Items in one cart")


class Ranker(BaseModel, frozen=True):
    model: str
    top_k: int = 10


class Pool:
    """Stands for a connection pool that follows the configuration."""

    timeout_s = 2.0

    def set_timeout(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s


def source() -> GitSource | UnsafeNoVerification:
    """The signed repository where CONFIG_URL names one; else, in development, the folder beside this file."""
    url = os.environ.get("CONFIG_URL")
    return GitSource(url=url, ref="main") if url else UnsafeNoVerification(HERE / "config-repo")


live = LiveConfig(
    Checkout,
    source=source(),
    trusted_root=Path(os.environ["CONFIG_TRUSTED_ROOT"]) if "CONFIG_TRUSTED_ROOT" in os.environ else None,
    service="checkout",
    env=os.environ.get("LIVECFG_ENV", "dev"),
    poll_interval_s=float(os.environ.get("CONFIG_POLL_S", "30")),
)
ranker = live.split("ranker", Ranker)
pool = Pool()


@live.prepare
def weights_are_usable(old: Snapshot[Checkout] | None, new: Snapshot[Checkout]) -> None:  # noqa: ARG001 - the hook's signature
    """Build what the new revision needs; an exception here keeps the old revision."""
    weights = json.loads(new.files["ranker_weights"])
    if not all(isinstance(weight, int | float) for weight in weights.values()):
        raise TypeError("every weight must be a number")


@live.on_change("payment_timeout_s")
def resize_pool(old: Snapshot[Checkout], new: Snapshot[Checkout]) -> None:  # noqa: ARG001 - the hook's signature
    pool.set_timeout(new.config.payment_timeout_s)
