"""Tests of common claims about GANs, C1 to C13: the runs that each needs, its measurements and its verdict."""
