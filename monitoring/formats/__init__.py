"""How times are written for people: one way in every language, sortable, to the second."""
