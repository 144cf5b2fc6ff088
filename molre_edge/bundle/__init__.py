"""The bundle: manifest, graphs, golden set and engine files, hashed."""
