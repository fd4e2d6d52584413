"""Serves the generators of a model repository over gRPC."""
