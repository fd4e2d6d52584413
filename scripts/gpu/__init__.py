"""Carries what benchmarks.gpu_day needs to a machine without network; docs/gpu-day.md describes it."""
