"""Contracts shared by all stages: the wire, model bundles, latents from seeds, metrics and image files."""
