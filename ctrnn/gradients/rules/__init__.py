"""Rules that learn while the run goes on: what each carries from step to step, and the gradient it makes of it."""
