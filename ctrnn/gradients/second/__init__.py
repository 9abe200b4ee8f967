"""Second derivatives through the recorded steps."""
