"""Welcome a customer: create the account, provision it, send the mail."""
