"""The retraining as a job: what its rooms tell one another, and what runs around them."""
