"""The curriculum file, read: its text, its fields, what must hold between them."""
