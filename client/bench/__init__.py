"""Measures how fast a server answers: loads, loops that put them on it, and results of what came back."""
