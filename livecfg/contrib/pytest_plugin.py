"""The pytest plugin: the fixture `livecfg_override` and the marker `livecfg`; nothing happens for tests that use neither.

```python
@pytest.mark.livecfg(live, flags={"new-checkout": True})
def test_the_new_checkout_is_served() -> None: ...


def test_a_short_timeout(livecfg_override) -> None:
    livecfg_override(live, config={"payment_timeout_s": 0.1})
```
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from livecfg.snapshot import Snapshot


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, so that --strict-markers knows it."""
    config.addinivalue_line(
        "markers",
        "livecfg(live, *, config, flags, splits, files): run the test with these values of `live` (livecfg.testing.override)",
    )


@pytest.fixture
def livecfg_override() -> Iterator[Callable[..., Snapshot[Any]]]:
    """`livecfg.testing.override` until the end of the test: call it with `live` and the values."""
    from livecfg.testing import override  # noqa: PLC0415 - only tests that ask for it pay for it

    with ExitStack() as stack:
        yield lambda live, **values: stack.enter_context(override(live, **values))


@pytest.fixture(autouse=True)
def _livecfg_marker(request: pytest.FixtureRequest) -> Iterator[None]:
    """Apply the marks of the test, the one of the module or class before its own."""
    marks = list(request.node.iter_markers("livecfg"))
    if not marks:
        yield
        return
    from livecfg.testing import override  # noqa: PLC0415 - as above

    with ExitStack() as stack:
        for mark in reversed(marks):
            if len(mark.args) != 1:
                pytest.fail("pytest.mark.livecfg: expected the LiveConfig as the one positional argument", pytrace=False)
            stack.enter_context(override(mark.args[0], **mark.kwargs))
        yield
