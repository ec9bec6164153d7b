"""Named reads: every list and page that a door shows.

A list has a page and a constant number of queries. What comes out is JSON, the same
for REST, the command line and the pages; nothing here changes a row or reads the clock.
"""
