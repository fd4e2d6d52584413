"""Stubs generated from proto/ganserve/v1; `make proto` writes them."""
