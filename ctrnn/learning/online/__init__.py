"""Learning while a system runs: its weights move as the data come."""
