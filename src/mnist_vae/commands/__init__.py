"""The commands of the jobs: each takes a lock, runs pipelines, acts, and reports how it ended."""
