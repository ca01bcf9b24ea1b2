"""`python -m asgi_export` is `asgi-export`."""

import sys

from asgi_export.cli import main

if __name__ == "__main__":
    sys.exit(main())
