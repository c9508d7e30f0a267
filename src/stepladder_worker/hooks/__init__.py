"""What Stepladder changes in transformers.Trainer, one file per concern."""
