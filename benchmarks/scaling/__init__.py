"""Capacity planning: measures what a request costs, simulates servers under load, checks that, and plans replicas."""
