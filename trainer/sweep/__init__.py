"""Sweeps: a grid of runs under several seeds, trained one after another and compared in one report."""
