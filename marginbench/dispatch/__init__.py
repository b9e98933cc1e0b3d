"""Where cells are trained: worker processes here, torchrun, SLURM."""
