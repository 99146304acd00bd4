"""Trigger reversal by others, as published: what the project's own reversal is measured against."""
