"""Forward runs that can be pulled back."""
