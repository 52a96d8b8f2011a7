"""Computes the stamp of the C++ sources, which the compiled op contains.

This file may import the standard library only, because setup.py runs it before
anything is installed.
"""

import hashlib
from pathlib import Path

_CC = Path(__file__).resolve().parent / "cc"


def source_stamp(folder: Path = _CC) -> str | None:
    """Returns a hash of the sources in `folder`, or `None` if there are none.

    Args:
        folder: Path of a folder. Defaults to the folder `cc` beside this file.
    """
    sources = sorted(
        path
        for path in [*folder.glob("*.cc"), *folder.glob("*.h")]
        if not path.name.endswith("_test.cc")
    )
    if not sources:
        return None
    digest = hashlib.sha256()
    for path in sources:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
