"""A program as steps of PyTorch, on a device: run one by one, or as a CUDA graph."""
