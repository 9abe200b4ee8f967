"""How far a gradient can be trusted, and all gradients side by side."""
