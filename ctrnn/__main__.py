"""``python -m ctrnn`` is the console command ``ctrnn``."""

from ctrnn.cli.main import main

if __name__ == "__main__":
    main()
