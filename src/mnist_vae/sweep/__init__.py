"""`kedro sweep`: models over parameters and seeds, compared in one table."""
