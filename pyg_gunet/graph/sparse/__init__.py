"""Sparse matrices: the only place that knows scipy and torch.sparse."""
