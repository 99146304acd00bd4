"""Tables and figures of Poison Frogs (Shafahi et al. 2018), measured again."""
