"""Solvers: our Runge–Kutta methods, SciPy's and torchdiffeq's, runs with events, and ensembles."""
