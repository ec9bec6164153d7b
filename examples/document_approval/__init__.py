"""A document is approved by two reviewers and signed by a vendor who calls back."""
