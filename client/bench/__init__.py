"""Measures how fast a server answers: loads, loops that put them on it, and figures of what came back."""
