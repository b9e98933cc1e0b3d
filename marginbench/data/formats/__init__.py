"""Readers of files, none of which trusts what it reads."""
