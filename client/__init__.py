"""Talks to a ganserve server: the ganclient command and a Python class."""
