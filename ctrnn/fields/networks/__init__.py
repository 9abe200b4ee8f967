"""Networks as texts: an equation of a few lines, and numbers to begin with."""
