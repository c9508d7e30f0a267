"""Training data: mixtures, selection, sample formats and the rendered rooms."""
