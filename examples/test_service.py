"""pytest: no Git, no thread. The values last as long as the block, in this context only."""

from __future__ import annotations

from examples.service import cart
from examples.settings import Ranker, live
from livecfg.testing import override


def test_canary_backend_is_served() -> None:
    with override(live, flags={"cart-backend": "canary"}, splits={"ranker": ("v9", Ranker(model="v9"))}):
        assert cart("u1", live.current.view({"targetingKey": "u1"}))["backend"] == "canary"
