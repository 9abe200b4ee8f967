"""Derivatives of the solution, of inputs and through events."""
