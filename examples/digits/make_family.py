"""Train the digits family and write it: python examples/digits/make_family.py DIR."""

from __future__ import annotations

import sys
from pathlib import Path

import family


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: make_family.py DIR")
    root = Path(sys.argv[1])
    if root.exists():
        sys.exit(f"{root} is there already")
    family.make(root)
    print(" ".join(str(root / name) for name in ("base", *family.EXPERTS)))


if __name__ == "__main__":
    main()
