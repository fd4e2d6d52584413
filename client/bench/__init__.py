"""Measures the throughput and latency of a server: loads, the loops that apply them, and the results."""
