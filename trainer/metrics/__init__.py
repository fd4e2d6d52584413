"""How good samples are: pure measures on tensors, and the catalogue that says how to read each figure."""
