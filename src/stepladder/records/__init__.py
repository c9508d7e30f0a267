"""What a run wrote, read back."""
