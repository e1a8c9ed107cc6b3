"""Talking to the process that runs Core ML: messages, shared memory, and what is loaded there."""
