"""The service ganserve.v1.ModelControl: which versions of the models are served."""
