"""Did every stage continue from the last? Pure checks over what was recorded and what lies on disk."""
