"""Cells as jobs of a SLURM cluster."""
