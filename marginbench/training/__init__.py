"""One cell: from its parameters to its result."""
