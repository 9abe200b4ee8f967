"""Gradients while the run goes on."""
