"""`python -m jobfac`: the same as `jobfac`."""

from jobfac.cli import main

if __name__ == "__main__":
    main()
