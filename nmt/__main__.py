"""`python -m nmt` is the command `nmt`."""

from nmt.cli.main import run

if __name__ == "__main__":
    run()
