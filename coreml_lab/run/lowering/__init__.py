"""A program as ONNX: its model, its weights, and which operation stands behind each node."""
