"""Lending our runtime to coremltools: ``cl.install_runtime()``."""
