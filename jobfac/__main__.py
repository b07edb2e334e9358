"""`python -m jobfac`: the same as `jobfac`."""

from jobfac.cli import run

if __name__ == "__main__":
    run()
