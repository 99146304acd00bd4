"""Zoos: folders of clean and poisoned networks on which detectors are fitted, calibrated and tested."""
