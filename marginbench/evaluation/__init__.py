"""Numbers of a trained model."""

RETRIEVAL = ("precision_at_1", "r_precision", "map_at_r")
"""The numbers of :class:`marginbench.evaluation.retrieval.Retrieval` that are compared, by name."""
