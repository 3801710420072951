"""`python -m opusagent` is the command `opusagent`."""

from opusagent.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
