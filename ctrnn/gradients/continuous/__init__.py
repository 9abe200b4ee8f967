"""The variational equation as an ODE of its own, on any solver."""
