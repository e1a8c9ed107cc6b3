"""Talking to the process that runs Core ML: messages, shared memory, and what is loaded there."""

# The module that a worker process runs.
ENTRY = "coreml_lab.run.worker"
