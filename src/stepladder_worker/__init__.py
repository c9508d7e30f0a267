"""What runs inside every training process, around the user's script.

Self-contained: standard library, torch and transformers only. The control side packs this package into a
zipapp, so it works in an interpreter where Stepladder is not installed (Python 3.10 and newer).
"""
