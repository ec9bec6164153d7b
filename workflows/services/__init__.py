"""What can be done: one function, one transaction. Doors call these and nothing else."""
