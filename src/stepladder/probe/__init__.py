"""A contract test of a person's own script: what it does at a boundary by itself, and what Stepladder makes of it."""
