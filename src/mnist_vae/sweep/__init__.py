"""`kedro sweep`: many runs over parameters and seeds, and what they say together."""
