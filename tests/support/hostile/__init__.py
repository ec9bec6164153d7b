"""An application whose task types behave badly: its workers must get over every one of them."""
