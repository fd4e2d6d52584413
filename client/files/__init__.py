"""Reads and writes files: pictures, animations and latents."""
