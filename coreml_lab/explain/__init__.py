"""Understanding a recording: facts, reports, comparisons and what could be better."""
