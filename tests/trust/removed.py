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
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FunctionType, ModuleType


@contextmanager
def without(module: ModuleType, check: str, instead: str = "") -> Iterator[None]:
    """Run with `check` replaced by `instead`.

    `check` must stand exactly once in the module's source, inside a function. Caches (`lru_cache`) of the module are emptied at
    both ends; constants of the module itself are not touched.

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
        _forget(module)
        yield
    finally:
        for name, code in kept.items():
            functions[name].__code__ = code
        _forget(module)


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


def _forget(module: ModuleType) -> None:
    caches: list[Callable[[], None]] = [v.cache_clear for v in vars(module).values() if hasattr(v, "cache_clear")]
    for clear in caches:
        clear()
