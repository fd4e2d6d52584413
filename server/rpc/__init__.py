"""Shared by both services: the request handler around every method, message parsing, byte budgets."""
