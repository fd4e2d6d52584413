"""The Python SDK: `GanClient` and `AsyncGanClient`, and how their calls become requests."""
