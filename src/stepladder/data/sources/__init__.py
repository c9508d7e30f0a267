"""Readers of the formats a dataset may have: each turns files into batches of JSON objects."""
