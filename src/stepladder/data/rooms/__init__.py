"""Procedurally rendered 3D rooms: cross-view pointing samples with true occlusion, from NumPy alone."""
