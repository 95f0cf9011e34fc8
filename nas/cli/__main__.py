"""``python -m nas.cli`` is ``nas``, for a checkout that is not installed."""

from nas.cli import main

if __name__ == "__main__":
    main()
