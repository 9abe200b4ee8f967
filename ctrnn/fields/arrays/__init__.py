"""Equations with arrays: text → shapes → graph → programs → code."""
