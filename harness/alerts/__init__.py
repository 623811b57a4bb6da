"""Delivery of alerts: HTTP callbacks, local sinks, retries. What is sent and when is decided in ``harness.cloud``."""
