"""Names of metrics and attributes for OpenTelemetry and Prometheus, in one place."""

from __future__ import annotations

EVALUATION_EVENT = "feature_flag.evaluation"
"""OpenTelemetry's event for feature flags; its attributes are those of OpenFeature's appendix D, reasons in lower case."""


def evaluation_attributes(key: str, variant: str, unit: str, version: str, flag_set: str) -> dict[str, str]:
    """Give the attributes of one evaluation that drew an arm."""
    made = {
        "feature_flag.key": key,
        "feature_flag.result.variant": variant,
        "feature_flag.result.reason": "split",
        "feature_flag.context.id": unit,
        "feature_flag.provider.name": "livecfg",
        "feature_flag.version": version,
    }
    return made | ({"feature_flag.set.id": flag_set} if flag_set else {})
