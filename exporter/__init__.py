"""Exports a trained generator to TorchScript and ONNX, and publishes it in the model repository."""
