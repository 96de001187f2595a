"""`python -m dfloc` is `dfloc`."""

from dfloc.cli import main

if __name__ == "__main__":
    main()
