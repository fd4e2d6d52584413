"""Data sets: images in, one uint8 tensor out."""
