"""`kedro schedule`: what a scheduler needs to run a job, from the templates in this folder."""
