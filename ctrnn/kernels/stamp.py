"""Compiled code that is older than its sources is thrown away.

Numba keeps the machine code of a function until the file of that function changes. It does not see a change in another
file whose functions or constants were compiled into it. So a digest of all the sources of this folder lies beside the
machine code, and where it differs, everything is compiled again.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path


def check() -> None:
    """Remove the compiled code of this folder unless it was made from the present sources."""
    folder = Path(__file__).parent
    cache = folder / "__pycache__"
    digest = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(folder.rglob("*.py")))).hexdigest()
    stamp = cache / "sources.sha256"
    # a folder that cannot be written holds no compiled code of ours either: Numba then uses the user's
    with contextlib.suppress(OSError):
        if stamp.exists() and stamp.read_text() == digest:
            return
        for old in [*folder.rglob("*.nbi"), *folder.rglob("*.nbc")]:
            old.unlink(missing_ok=True)
        cache.mkdir(exist_ok=True)
        temporary = stamp.with_suffix(f".{id(digest)}.tmp")
        temporary.write_text(digest)
        temporary.replace(stamp)
