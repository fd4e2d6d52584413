"""Ray Serve as a host of the core: replicas behind Ray's gRPC proxy. docs/ray.md tells when that is worth it."""
