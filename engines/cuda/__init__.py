"""The CUDA device behind two bindings: memory, streams, graphs, and the loop over batches."""
