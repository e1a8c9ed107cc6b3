"""What to run: tensors, graphs, programs, and the road to and from Core ML's own format."""
