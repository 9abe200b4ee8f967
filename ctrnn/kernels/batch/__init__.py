"""Many trials in lockstep, by tiles."""
