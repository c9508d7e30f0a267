"""A stage's data to look at: counts for the terminal, and a sheet of samples as one HTML file."""
