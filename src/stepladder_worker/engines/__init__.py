"""Where an engine keeps weights and optimizer state, by parameter name."""
