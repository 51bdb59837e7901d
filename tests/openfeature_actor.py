"""The steps of the public suites for OpenFeature providers: the words that they are said in, and what each does."""

from __future__ import annotations

import queue
from typing import Any

from openfeature import api
from openfeature.event import EventDetails, ProviderEvent
from openfeature.flag_evaluation import FlagEvaluationOptions

from livecfg.openfeature import LivecfgProvider
from tests.e2e.support import eventually
from tests.gherkin import Table, cast
from tests.openfeature_stage import Noting, Stage, asked, context_of, merged

EVENTS = {
    "ready": ProviderEvent.PROVIDER_READY,
    "error": ProviderEvent.PROVIDER_ERROR,
    "stale": ProviderEvent.PROVIDER_STALE,
    "change": ProviderEvent.PROVIDER_CONFIGURATION_CHANGED,
    "configuration_changed": ProviderEvent.PROVIDER_CONFIGURATION_CHANGED,
}


class Actor:
    """Plays one scenario: the steps are methods."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.client = stage.client()
        self.case: dict[str, Any] = {"context": {}}
        self.entries: dict[str, dict[str, Any]] = {}
        self.levels: list[str] = []
        self.hook = Noting()
        self.ordered: list[Any] = []
        self.options: FlagEvaluationOptions | None = None
        self.events: dict[str, queue.Queue[EventDetails]] = {}
        self.details: EventDetails | None = None

    def nothing(self, *_: str) -> None:
        """A step that asks for nothing."""

    # --- given --------------------------------------------------------------------------------------------------------

    def provider(self, condition: str) -> None:
        self.client = self.stage.client({"unavailable": "error"}.get(condition, condition))

    def flag(self, kind: str, key: str, default: str) -> None:
        self.case |= {"type": kind.lower(), "flag": key, "default": cast(kind, default)}

    def unit(self, text: str) -> None:
        self.case["context"]["targetingKey"] = text

    def attribute(self, key: str, kind: str, text: str) -> None:
        self.case["context"][key] = cast(kind, text)

    def nested(self, outer: str, inner: str, text: str) -> None:
        self.case["context"][outer] = {inner: text}

    def nothing_at(self, key: str) -> None:
        self.case["context"][key] = None

    def add_hook(self) -> None:
        self.client.add_hooks([self.hook])

    def call_hooks(self) -> None:
        self.options = FlagEvaluationOptions(hooks=[Noting(order=self.ordered), Noting(order=self.ordered)])

    def entry(self, key: str, text: str, kind: str | None, level: str) -> None:
        self.entries.setdefault(level, {})[key] = cast(kind or "string", text)

    def order(self, table: Table) -> None:
        self.levels = [row[0] for row in table]

    def entries_upto(self, level: str, key: str) -> None:
        for name in self.levels[: self.levels.index(level) + 1]:
            self.entry(key, name, None, name)

    def listen(self, event: str) -> None:
        event = event.lower().removeprefix("provider_")
        self.client.add_handler(EVENTS[event], self.events.setdefault(event, queue.Queue()).put)

    # --- when ---------------------------------------------------------------------------------------------------------

    def evaluate(self) -> None:
        self.made, later = asked(self.client, self.case)
        assert self.made == later

    def evaluate_with_options(self) -> None:
        ask = getattr(self.client, f"get_{self.case['type']}_details")
        ask(self.case["flag"], self.case["default"], context_of(self.case["context"]), self.options)

    def evaluate_merged(self) -> None:
        self.merged = merged(self.stage, self.entries)

    def track(self, name: str) -> None:
        self.client.track(name)

    def modify(self, key: str = "changing-flag") -> None:
        served = self.client.get_string_value(key, "")
        flag = {"state": "ENABLED", "variants": {"foo": "foo", "bar": "bar"}}
        changed = flag | {"defaultVariant": "bar" if served == "foo" else "foo"}
        self.stage.change({**self.stage.flags, "flags": {**self.stage.flags["flags"], key: changed}})

    def remember(self) -> None:
        self.remembered = self.made.value

    def fails_to_initialize(self) -> None:
        broken = self.stage.following(self.stage.root / "nowhere", start_timeout_s=0.1)
        self.stage.others.append(broken)
        api.set_provider(LivecfgProvider(broken))

    def lose(self) -> None:
        self.stage.lose()

    def lose_for_a_while(self, seconds: str) -> None:
        """Take the remote away until it shows; `seconds` is for those who only wait."""
        del seconds
        self.stage.lose()
        self.in_state("stale")
        self.stage.restore()

    def restore(self) -> None:
        self.stage.restore()

    # --- then ---------------------------------------------------------------------------------------------------------

    def fired(self, event: str, _: str | None = None) -> None:
        """Wait for the event. The provider looks for staleness when a flag is evaluated, as an application goes on doing."""
        waiting = self.events[event.lower().removeprefix("provider_")]

        def heard() -> bool:
            self.client.get_boolean_value("any", False)  # noqa: FBT003 - the SDK's signature
            return not waiting.empty()

        eventually(heard)
        self.details = waiting.get()

    def change_fired(self) -> None:
        self.modify()
        self.fired("change")

    def altered(self, key: str = "changing-flag") -> None:
        assert self.details is not None
        assert key in (self.details.flags_changed or ())

    def in_state(self, name: str) -> None:
        def there() -> bool:
            self.client.get_boolean_value("any", False)  # noqa: FBT003 - the SDK's signature
            return self.client.get_provider_status().value == name.upper()

        eventually(there)

    def has_changed(self) -> None:
        assert self.made.value != self.remembered
        assert self.made.value in {"foo", "bar"}

    def value(self, text: str) -> None:
        expected = cast(self.case["type"], text)
        assert (self.made.value, type(self.made.value)) == (expected, type(expected))

    def object_has(self, table: Table) -> None:
        for key, kind, text in table[1:]:
            assert self.made.value[key] == cast(kind, text)

    def key(self, text: str) -> None:
        assert self.made.flag_key == text

    def variant(self, text: str) -> None:
        assert self.made.variant == text

    def reason(self, text: str) -> None:
        assert self.made.reason == text

    def error(self, text: str) -> None:
        assert (self.made.error_code or "") == text

    def no_message(self) -> None:
        assert not self.made.error_message

    def metadata(self, table: Table) -> None:
        for key, kind, text in table[1:]:
            expected = cast(kind, text)
            assert (self.made.flag_metadata[key], type(self.made.flag_metadata[key])) == (expected, type(expected))

    def no_metadata(self) -> None:
        assert self.made.flag_metadata.keys() == {"version"}  # livecfg always says which revision answered

    def named(self) -> None:
        assert self.stage.provider.get_metadata().name

    def executed(self, names: str) -> None:
        assert set(names.split(", ")) <= self.hook.calls.keys()

    def called_with(self, names: str, table: Table) -> None:
        for name in names.split(", "):
            for kind, key, text in table[1:]:
                expected = None if text in {"None", "null"} else cast(kind, text)
                assert str(getattr(self.hook.calls[name], key)) == str(expected)

    def in_order(self) -> None:
        assert self.options is not None
        assert self.ordered == list(self.options.hooks)

    def merged_has(self, key: str, text: str, kind: str | None = None) -> None:
        assert self.merged[key] == cast(kind or "string", text)

    def merged_lacks(self, key: str) -> None:
        assert key not in self.merged

    def was_tracked(self, name: str) -> None:
        assert self.stage.provider.tracked == name


WORDS = [
    (r"an? (?:stable|metadata|offline)(?: flagd)? provider(?: with retrievable context is registered)?", "nothing"),
    (r"a provider (?:is registered|which supports events and requires initialization)", "nothing"),
    (r"the provider is set and success\w*ly initialized", "nothing"),
    (r"the provider is set and fails to initialize", "fails_to_initialize"),
    (r"an? (not ready|fatal|error|stale|unavailable) provider", "provider"),
    (r'an option "(?:cache|selector)" of type ".*" with value ".*"', "nothing"),
    (r'an? (\w+)-flag with key "(.*)" and a (?:default|fallback) value "(.*)"', "flag"),
    (r'a context containing a targeting key with value "(.*)"', "unit"),
    (r'a context containing a key "(.*)", with type "(.*)" and with value "(.*)"', "attribute"),
    (
        r'a context containing a nested property with outer key "(.*)" and inner key "(.*)", with value "(.*)"',
        "nested",
    ),
    (r'a context containing a key "(.*)" with null value', "nothing_at"),
    (r"a client with added hook", "add_hook"),
    (r"evaluation options containing specific hooks", "call_hooks"),
    (r'a context entry with key "([^"]*)" and value "([^"]*)"(?: of type "(.*)")? is added to the "(.*)" level', "entry"),
    (r"a table with levels of increasing precedence", "order"),
    (
        r'context entries for each level from API level down to the "([^"]*)" level, with key "([^"]*)" and value .*',
        "entries_upto",
    ),
    (r"an? (\w+) (?:event handler|handler is attached)", "listen"),
    (r"the flag was evaluated with details(?: asynchronously)?", "evaluate"),
    (r"the flag was evaluated with details using the evaluation options", "evaluate_with_options"),
    (r"some flag was evaluated", "evaluate_merged"),
    (r'an event was tracked with tracking event name "(.*)"', "track"),
    (r"the flag was modified", "modify"),
    (r'a flag with key "(.*)" is modified', "modify"),
    (r"the resolved value is remembered", "remember"),
    (r"the connection is lost", "lose"),
    (r"the connection is lost for (\d+)s", "lose_for_a_while"),
    (r"the connection is restored", "restore"),
    (r"the (\w+) event handler should have been executed(?: within (\d+)ms)?", "fired"),
    (r"the (\w+) handler must run", "fired"),
    (r"a change event was fired", "change_fired"),
    (r"a (ready|stale|error) event was fired", "fired"),
    (r"the flag should be part of the event payload", "altered"),
    (r'the event details must indicate "(.*)" was altered', "altered"),
    (r"the client should be in (\w+) state", "in_state"),
    (r'the provider status should be "(.*)"', "in_state"),
    (r"the resolved details value should have changed", "has_changed"),
    (r'the resolved details value should be "(.*)"', "value"),
    (r"the resolved object value should contain", "object_has"),
    (r'the flag key should be "(.*)"', "key"),
    (r'the variant should be "(.*)"', "variant"),
    (r'the reason should be "(.*)"', "reason"),
    (r'the error-code should be "(.*)"', "error"),
    (r"the error message should be empty", "no_message"),
    (r"no exception should have been thrown", "nothing"),
    (r"the evaluation should complete without blocking", "nothing"),
    (r"the resolved metadata should contain", "metadata"),
    (r"the resolved metadata is empty", "no_metadata"),
    (r"the provider metadata name should not be empty", "named"),
    (r'the "(.*)" hooks? should have been executed', "executed"),
    (r'the "(.*)" hooks? should be called with evaluation details', "called_with"),
    (r"the specified hooks should execute during evaluation", "in_order"),
    (r"the hook order should be maintained", "in_order"),
    (r'the merged context contains an entry with key "([^"]*)" and value "([^"]*)"(?: of type "(.*)")?', "merged_has"),
    (r'the evaluation context should allow missing "(.*)" field', "merged_lacks"),
    (r'the tracking provider should have been called with event name "(.*)"', "was_tracked"),
]
