"""The console command ``ctrnn``: one file a command."""
