#!/usr/bin/env python
"""python tools/prepare.py FOOTAGE -o DATASET: a folder of footage becomes checked clips."""

import sys

from mien.prepare.command import main

if __name__ == "__main__":
    sys.exit(main())
