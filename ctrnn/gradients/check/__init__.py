"""Independent routes to a gradient, and comparisons."""
