"""Vector fields F(t, r, w, x): equations, networks and torch callables."""
