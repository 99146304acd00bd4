"""The detection matrix: every attack that the project builds against every check."""
