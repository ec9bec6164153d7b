"""The REST door: parse, call one service or selector, present.

What comes in is read by `forms`, what goes out has a shape of `selectors.shapes`, and every
refusal is a problem of `problems`. A door names the permission that each method needs.
"""
