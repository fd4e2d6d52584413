"""Compares other model servers with ours: same graphs, same load."""
