"""Sweeps: a grid of trainings under several seeds, run one after another and compared in one report."""
