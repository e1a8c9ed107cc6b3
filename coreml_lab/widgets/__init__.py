"""Seeing it: the feed, the pump and the live dashboard. Widgets remember nothing; the feed does."""
