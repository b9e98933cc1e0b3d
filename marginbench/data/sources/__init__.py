"""The data sources: what a cell names."""
