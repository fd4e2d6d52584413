"""The batcher: packs rows of many requests into batches for instances. Knows neither gRPC nor runtimes."""
