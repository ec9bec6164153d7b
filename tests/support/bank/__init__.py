"""A bank of the tests: a task type that must not be repeated blindly, and its probe."""
