"""Readers of the annotation formats in which photographs of traffic signs are published, one module each."""
