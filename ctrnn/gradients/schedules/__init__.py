"""When to go forward and back: one file a schedule."""
