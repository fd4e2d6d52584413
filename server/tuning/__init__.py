"""`python -m server tune`: measures layouts of instances on this machine."""
