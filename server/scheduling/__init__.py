"""The batcher: packs the rows of many requests into batches for instances. Independent of gRPC and runtimes."""
