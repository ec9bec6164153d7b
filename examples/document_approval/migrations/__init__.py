"""What the example needs in the database."""
