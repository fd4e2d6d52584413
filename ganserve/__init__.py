"""Contracts that the stages share: the wire, the bundle, seeds, metrics, image files."""
