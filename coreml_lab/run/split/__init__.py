"""What splitting a program rests on: costs, conditions, strategies, what profiles taught."""
