"""Other model servers beside ours, on the same graphs, under the same load."""
