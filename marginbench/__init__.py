"""Compare margin losses: declare a grid of training runs, run it, read one report."""

__version__ = "0.1.0"
