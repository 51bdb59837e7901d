"""Names of metrics and attributes for OpenTelemetry and Prometheus, in one place."""

from __future__ import annotations

EVALUATION_EVENT = "feature_flag.evaluation"
"""OpenTelemetry semantic conventions 1.34 and later, "Semantic conventions for feature flags in logs"."""


def evaluation_attributes(key: str, variant: str, unit: str, version: str) -> dict[str, str]:
    """Give the attributes of one evaluation that drew an arm."""
    return {
        "feature_flag.key": key,
        "feature_flag.result.variant": variant,
        "feature_flag.result.reason": "split",
        "feature_flag.context.id": unit,
        "feature_flag.provider.name": "livecfg",
        "feature_flag.version": version,
    }
