"""Adapters for frameworks, one file each; each imports its framework only when it is used."""
