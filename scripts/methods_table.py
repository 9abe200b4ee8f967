"""README's table of gradient methods, from what the methods say of themselves: ``python scripts/methods_table.py``."""

from __future__ import annotations

import re
from pathlib import Path

from ctrnn.gradients.methods import table

README = Path(__file__).parents[1] / "README.md"


def main() -> None:
    text = README.read_text(encoding="utf-8")
    between = r"(<!-- gradient methods -->\n).*?(\n<!-- end -->)"
    README.write_text(re.sub(between, lambda found: found[1] + table() + found[2], text, flags=re.S), encoding="utf-8")


if __name__ == "__main__":
    main()
