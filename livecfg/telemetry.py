"""Names of metrics and attributes for OpenTelemetry and Prometheus, in one place."""
