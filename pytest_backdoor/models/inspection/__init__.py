"""What is wrong with a model file's bytes, found before anything that could be hurt by them reads them."""
