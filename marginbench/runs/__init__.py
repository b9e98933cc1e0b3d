"""What is on disk: run folders, leases, attempts, results."""
