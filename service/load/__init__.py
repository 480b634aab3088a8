"""`dragoman load`: the load generator."""
