"""FlagSet: the flags of an application as typed attributes of a class, each with owner, kind and expiry.

```python
@live.flags
class Flags(FlagSet):
    new_checkout = Flag(default=False, kind="release", owner="checkout", expires="2027-03-01")
    page_size = Flag(20, kind="ops", owner="search", key="search-page-size")

Flags(view).new_checkout        # a bool, for the unit of this view
```
Every load checks that the repository has these flags, with variants of the declared type. Who owns a flag and when it should be
gone is for people: `livecfg flags stale` reads it, loading does not, since a day that passes must not stop a service.
"""

from __future__ import annotations

import datetime as dt
import types
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar, get_args, overload

from livecfg.errors import LivecfgError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from livecfg.snapshot import View

V = TypeVar("V", bool, int, float, str, dict[str, Any], list[Any])
Kind = Literal["release", "experiment", "ops", "permission"]
_KINDS: tuple[str, ...] = get_args(Kind)
_ENDING = ("release", "experiment")
_TYPES = (bool, int, float, str, dict, list)
_METHODS = (types.FunctionType, property, classmethod, staticmethod)


class Flag(Generic[V]):
    """One declared flag: what callers get without it, and who answers for it until when.

    The kind says how long it may live: `release` and `experiment` flags end, so they need `expires` (`2027-03-01`); `ops` and
    `permission` flags may stay. `key` is the flag's name in the repository, by default the attribute's with `-` for `_`.
    """

    __slots__ = ("default", "description", "expires", "key", "kind", "owner")

    def __init__(self, default: V, *, kind: Kind, owner: str, expires: str = "", key: str = "", description: str = "") -> None:
        self.default: V = default
        self.kind = kind
        self.owner = owner
        self.expires = expires
        self.key = key
        self.description = description

    def __set_name__(self, _: type[FlagSet], name: str) -> None:
        self.key = self.key or name.replace("_", "-")

    @overload
    def __get__(self, view: None, kind: type[FlagSet]) -> Flag[V]: ...

    @overload
    def __get__(self, view: FlagSet, kind: type[FlagSet]) -> V: ...

    def __get__(self, view: FlagSet | None, kind: type[FlagSet]) -> Flag[V] | V:
        return self if view is None else view._view.flag(self.key, self.default)  # noqa: SLF001 - its own class

    def __repr__(self) -> str:
        return f"Flag({self.default!r}, kind={self.kind!r}, owner={self.owner!r}, key={self.key!r})"

    def fault(self) -> str:
        """Say what is wrong with the declaration; empty when nothing is."""
        if type(self.default) not in _TYPES:
            return f"expected a default of type bool, int, float, str, dict or list, got {type(self.default).__name__}"
        if self.kind not in _KINDS:
            return f"expected a kind of {', '.join(_KINDS)}, got {self.kind!r}"
        if not self.owner:
            return "expected an owner: the people who remove it"
        if not self.expires:
            return f"expected expires: a {self.kind} flag ends some day" if self.kind in _ENDING else ""
        try:
            dt.date.fromisoformat(self.expires)
        except ValueError:
            return f"expected expires: a day such as 2027-03-01, got {self.expires!r}"
        return ""


class FlagSet:
    """Declared flags as attributes: on the class each is its `Flag`, on `Flags(view)` its value for the view's unit.

    Raises:
        LivecfgError: when the class is made: a declaration that lacks something, a key that stands twice.

    """

    __slots__ = ("_view",)
    _declared: ClassVar[Mapping[str, Flag[Any]]] = types.MappingProxyType({})

    def __init__(self, view: View[Any]) -> None:
        self._view = view

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        declared = dict(cls._declared)
        for name, flag in list(vars(cls).items()):
            where = f"{cls.__qualname__}.{name}"
            if name.startswith("_") or isinstance(flag, _METHODS):
                continue
            if not isinstance(flag, Flag):
                raise LivecfgError(f"{where}: expected a declaration, Flag(default, kind=…, owner=…), got {type(flag).__name__}")
            fault = flag.fault()
            if fault:
                raise LivecfgError(f"{where}: {fault}")
            if flag.key in declared:
                raise LivecfgError(f"{where}: the flag {flag.key!r} is declared twice")
            declared[flag.key] = flag
        cls._declared = types.MappingProxyType(declared)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._view!r})"


def declared(flags: type[FlagSet]) -> Mapping[str, Flag[Any]]:
    """Give the declarations of a FlagSet by key, those it inherits included."""
    return flags._declared  # noqa: SLF001 - its own class
