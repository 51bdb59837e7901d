"""Right and wrong uses of declared flags, for mypy alone: a wrong use that passes is an unused `type: ignore`, an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_type

from pydantic import BaseModel

from livecfg import Flag, FlagSet, LiveConfig, UnsafeNoVerification, View

if TYPE_CHECKING:
    from pathlib import Path


class Config(BaseModel, frozen=True):
    timeout_s: float = 1.0


class Ranker(BaseModel, frozen=True):
    model: str


class Flags(FlagSet):
    beta = Flag(default=False, kind="release", owner="shop", expires="2027-03-01")
    copy = Flag("long", kind="experiment", owner="shop", expires="2027-03-01")
    limit = Flag(20, kind="ops", owner="shop")
    ratio = Flag(0.5, kind="ops", owner="shop", key="the-ratio")
    theme = Flag({"colour": "black"}, kind="permission", owner="shop")


def right(view: View[Config], path: Path) -> None:
    mine = Flags(view)
    assert_type(mine.beta, bool)
    assert_type(mine.copy, str)
    assert_type(mine.limit, int)
    assert_type(mine.ratio, float)
    assert_type(mine.theme, dict[str, Any])
    assert_type(Flags.limit, Flag[int])
    live = LiveConfig(Config, source=UnsafeNoVerification(path))
    assert_type(live.flags(Flags)(view), Flags)
    assert_type(live.flag("beta", default=False)(view), bool)
    ranker = live.split("ranker", Ranker)
    assert_type(ranker(view).value, Ranker)
    assert_type(ranker.peek(view).value.model, str)
    assert_type(view.flag("limit", 1), int)
    assert_type(view.config.timeout_s, float)


def wrong(view: View[Config], path: Path) -> None:
    Flag(None, kind="ops", owner="shop")  # type: ignore[type-var]  # no flag has this type
    Flag(1, kind="forever", owner="shop")  # type: ignore[arg-type]  # there are four kinds
    Flag(1, kind="ops")  # type: ignore[call-arg]  # somebody must own it
    Flags(view).limti  # type: ignore[attr-defined]  # noqa: B018 - the mistyped name is the point
    Flags(view).limit.upper()  # type: ignore[attr-defined]  # an int has none
    text: str = Flags(view).limit  # type: ignore[assignment]  # an int is no str
    Flags(view).limit = text  # type: ignore[assignment]  # flags are read only
    Flags(view.config)  # type: ignore[arg-type]  # a FlagSet wants a view
    live = LiveConfig(Config, source=UnsafeNoVerification(path))
    live.flags(Config)  # type: ignore[type-var]  # not a FlagSet
    live.split("ranker", dict)  # type: ignore[type-var]  # arms are pydantic models
