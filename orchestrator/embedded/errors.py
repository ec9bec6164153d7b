"""What can go wrong with the embedded services.

EmbeddedError
└── every refusal: a directory, a socket or a server that could not be had, and what to do about it
"""


class EmbeddedError(Exception):
    """The embedded services could not be had."""
