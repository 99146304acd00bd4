"""Reference attacks: the BadNets and the zoos of networks that calibrate and test ``pytest_backdoor``."""
