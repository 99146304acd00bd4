"""Fitting and calibrating the detectors of ``pytest_backdoor`` on zoos of networks."""
