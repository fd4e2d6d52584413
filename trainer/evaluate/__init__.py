"""`python -m trainer.evaluate`: scores what a run, a bundle, a file or a server makes, all in one way."""
