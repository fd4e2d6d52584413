"""Engines: what loads a graph into a runtime and computes batches of rows."""
