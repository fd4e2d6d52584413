"""The batcher: packs the rows of many requests into batches for instances. Knows neither gRPC nor runtimes."""
