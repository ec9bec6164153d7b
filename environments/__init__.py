"""Where work may run: lifecycle, queues, variables, secrets and limits of an environment."""
