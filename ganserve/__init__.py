"""Contracts shared by all stages: the wire, model bundles, latents from seeds, metrics and image files."""

import os

# ONNX Runtime's official builds send events to Microsoft unless this is set before their import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
