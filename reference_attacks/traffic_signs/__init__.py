"""Detectors of traffic signs and the attack on them: a sticker on the sign (BadNets 2019, section V)."""
