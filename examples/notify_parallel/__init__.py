"""Tell several people at once, and page somebody only when it is urgent. No Python needed."""
