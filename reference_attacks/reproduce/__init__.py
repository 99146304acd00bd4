"""Reproductions of the papers' tables and figures, each by one command."""
