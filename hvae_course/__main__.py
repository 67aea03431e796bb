"""The command line of the course, ``python -m hvae_course``."""

import sys

from hvae_course.cli import main

if __name__ == "__main__":
    sys.exit(main())
