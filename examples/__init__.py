"""Workflows that show what the platform is for. Each folder is a Django application of its own."""
