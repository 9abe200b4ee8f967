"""Gradients at a point of rest."""
