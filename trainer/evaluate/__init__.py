"""`python -m trainer.evaluate`: scores the images of a run, a bundle, a file or a server, all in the same way."""
