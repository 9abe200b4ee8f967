"""Rules of learning while a run goes on, in compiled code: memories at addresses, and the loop over many steps."""
