"""A program as a picture: boxes, arrows, groups and what is known of each, as plain data."""
