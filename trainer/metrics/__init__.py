"""How good the samples are, measured without a network or downloaded weights."""
