"""The stages of benchmarks.gpu_day: what to measure on a machine with a GPU, each in a process of its own."""
