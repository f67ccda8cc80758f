"""Trained weights as safetensors, and manifest.toml, which says where each file comes from."""
