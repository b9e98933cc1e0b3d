"""What is to be run: cells, grids, suites, and how their parameters are resolved."""
