"""BadNets: networks backdoored through their training set (Gu et al., BadNets, 2019)."""
