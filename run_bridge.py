"""Run the bridge from a checkout: the same program as `python -m opusagent`."""

from opusagent.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main())
