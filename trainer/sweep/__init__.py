"""Sweeps: a grid of runs with several seeds, trained one after another and compared in one report."""
