"""The attempts of a stage: launched, looked after, launched again."""
