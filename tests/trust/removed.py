"""`without`: run with one named check of a module taken away, to see that the attack it stops would succeed.

The module's source is compiled again with one exact text replaced, and the code of every function that differs is swapped in
place, so that whoever imported the function by name runs the changed one too. Everything is put back at the end.

```python
with without(identify, "if signer is None:", "if False:"):
    assert attack()
```
"""

from __future__ import annotations

import inspect
import struct
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from livecfg.errors import LivecfgError
from livecfg.trust.tree import TreeFaultError
from livecfg.trust.wire import SignatureError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FunctionType, ModuleType


@dataclass(frozen=True)
class Removed:
    """One check, what stands in its place when it is removed, and the attack that it stops: whether it got through.

    An exception that is not one of the package's own counts as got through.
    """

    module: ModuleType
    check: str
    instead: str
    attack: Callable[[], bool]

    def prove(self) -> None:
        """Assert that the attack fails, succeeds without the check, and fails again."""
        assert not self.succeeds()
        with without(self.module, self.check, self.instead):
            assert self.succeeds()
        assert not self.succeeds()

    def succeeds(self) -> bool:
        """Whether the attack gets through now."""
        try:
            return self.attack()
        except (LivecfgError, SignatureError, TreeFaultError):
            return False
        except (LookupError, TypeError, ValueError, AttributeError, struct.error):
            return True


@contextmanager
def without(module: ModuleType, check: str, instead: str = "") -> Iterator[None]:
    """Run with `check` replaced by `instead`.

    `check` must stand exactly once in the module's source, inside a function. The package's caches (`lru_cache`) are
    emptied at both ends; constants of the module itself are not touched, nor functions made inside functions at import.

    Raises:
        LookupError: the text is not there once, or changes no function: the case no longer fits the code.

    """
    source = inspect.getsource(module)
    if source.count(check) != 1:
        raise LookupError(f"{check!r} stands {source.count(check)} times in {module.__name__}")
    changed = dict(_codes(compile(source.replace(check, instead), module.__file__ or "", "exec", dont_inherit=True)))
    before = dict(_codes(compile(source, module.__file__ or "", "exec", dont_inherit=True)))
    functions = {f.__code__.co_qualname: f for f in _functions(module)}
    swapped = [name for name in functions if name in changed and _differ(changed[name], before[name])]
    if not swapped:
        raise LookupError(f"{check!r} stands in no function of {module.__name__}")
    kept = {name: functions[name].__code__ for name in swapped}
    try:
        for name in swapped:
            functions[name].__code__ = changed[name]
        _forget()
        yield
    finally:
        for name, code in kept.items():
            functions[name].__code__ = code
        _forget()


def _codes(code: CodeType) -> Iterator[tuple[str, CodeType]]:
    """Give the code of every function and method that stands at the top of a module or class, by its qualified name."""
    for constant in code.co_consts:
        if inspect.iscode(constant):
            if "<locals>" not in constant.co_qualname:
                yield constant.co_qualname, constant
            yield from _codes(constant)


def _differ(one: CodeType, two: CodeType) -> bool:
    def shape(code: CodeType) -> tuple[Any, ...]:
        return code.co_code, code.co_names, [shape(c) if inspect.iscode(c) else (type(c), c) for c in code.co_consts]

    return shape(one) != shape(two)


def _functions(module: ModuleType) -> Iterator[FunctionType]:
    holders = [module, *(c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__)]
    for holder in holders:
        for value in vars(holder).values():
            plain: Any = getattr(value, "__func__", None) or (value.fget if isinstance(value, property) else value)
            plain = inspect.unwrap(plain) if callable(plain) else plain
            if inspect.isfunction(plain) and plain.__module__ == module.__name__:
                yield plain


def _forget() -> None:
    """Empty every cache of the package: what was found without the check must not outlive it."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "livecfg":
            for value in list(vars(module).values()):
                if hasattr(value, "cache_clear"):
                    value.cache_clear()
