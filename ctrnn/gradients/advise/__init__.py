"""What a gradient costs, and which method to take."""
