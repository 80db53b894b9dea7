"""`python -m trigbench` is the command `trigbench`."""

from trigbench.cli import main

if __name__ == "__main__":
    main()
