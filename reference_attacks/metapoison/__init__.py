"""MetaPoison (Huang et al. 2020): clean-label poisons, crafted through training, for networks trained from scratch."""
