"""Trains the GAN family: images in, run folder out."""
