"""From the frame of results to a page: statistics, drawing, tables."""
