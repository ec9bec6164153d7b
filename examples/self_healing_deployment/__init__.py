"""A release is tried on a share of the traffic, and promoted or taken back by what that tells."""
