"""How good samples are: pure measures on tensors, and which of them can choose a checkpoint."""
