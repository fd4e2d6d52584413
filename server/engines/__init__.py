"""Engines: load a graph into a runtime and compute batches of rows."""
