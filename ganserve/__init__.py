"""The wire contract in Python: stubs generated from proto/, and what a seed means."""
