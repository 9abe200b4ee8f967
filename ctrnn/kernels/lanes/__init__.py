"""Many members of an ensemble side by side, in vector instructions."""
