"""Compares our server with other model servers: same graphs, same load."""
