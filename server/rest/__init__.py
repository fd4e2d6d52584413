"""The HTTP API: a second host of the core, beside gRPC."""
