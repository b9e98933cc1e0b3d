"""Folders, hashes, caches and downloads of data."""
