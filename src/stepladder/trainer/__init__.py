"""The built-in training script: an ordinary Hugging Face script that knows nothing of curricula.

Run it as ``python -m stepladder.trainer ARGS`` or through torchrun. `__main__` reads as its table of contents.
"""
