"""Numbers of a trained model."""
