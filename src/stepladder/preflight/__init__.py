"""What a plan needs of this machine, looked at before anything starts."""
