"""Gradients by other derivatives than our own: torch's autograd, the complex step, central differences."""
