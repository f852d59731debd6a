"""``python -m sparsesr``: the command line."""

from __future__ import annotations

from sparsesr.cli import main

if __name__ == "__main__":
    main()
