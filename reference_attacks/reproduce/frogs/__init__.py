"""``reproduce frogs``: figures of Poison Frogs (2018)."""
