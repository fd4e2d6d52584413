"""The gRPC services: protobuf messages to plain values and back, and nothing else."""
