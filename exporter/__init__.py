"""Turns a run folder into a proven, served bundle."""
