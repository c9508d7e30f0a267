"""What becomes of a run when its curriculum is edited, and of a fork."""
