"""Metrics of image quality: pure functions on tensors, and the scorer that combines them."""
