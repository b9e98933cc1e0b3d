"""Plug-ins: registry, entry points, files, and the parameters that a signature declares."""
