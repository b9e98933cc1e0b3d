"""Who is trained on, and who is tested."""
