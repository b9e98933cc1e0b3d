"""Where data lie: folders, hashes, caches, downloads."""
