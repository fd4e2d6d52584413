"""Benchmarks, and tests of claims about GANs."""
