"""Poison Frogs (Shafahi et al. 2018): targeted clean-label poisoning by collisions in feature space."""
