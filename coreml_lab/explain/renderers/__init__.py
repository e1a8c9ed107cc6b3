"""One function each: from a page or a recording to text. They measure nothing."""
