"""Bettering it: actions that change a model, applied and measured before they are believed."""
