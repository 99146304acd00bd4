"""Figures of MetaPoison (Huang et al. 2020), measured again."""
