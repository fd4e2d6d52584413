"""The claims that are made of GANs, C1 to C13: what each needs trained, how it is measured, and what came out."""
