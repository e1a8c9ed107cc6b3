"""What placement rests on: tables with their sources, verdicts, segments, costs. Pure."""
