"""Initial models that are made here, once per seed."""
