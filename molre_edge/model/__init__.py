"""The MoLRE classifier in PyTorch: adapters, router, backbones, pooling, head, checkpoint."""
