"""Watching it: samples, recordings, paired measurements.

Empty on purpose: the sampling process imports this package and must start fast.
"""
