"""`python -m flows` is `zutis`: for torchrun, which starts modules and not commands."""

from flows.cli import main

if __name__ == "__main__":
    main()
