"""How many poisons the check of the training set finds, in sets of which every poison is known."""
