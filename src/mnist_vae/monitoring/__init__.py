"""What operators watch: the figures of a job, for Prometheus' textfile collector."""
