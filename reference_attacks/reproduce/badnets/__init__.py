"""The tables and figures of BadNets (2019), measured again."""
