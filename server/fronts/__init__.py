"""Fronts: what stands between gRPC and the services, and how one is chosen."""
