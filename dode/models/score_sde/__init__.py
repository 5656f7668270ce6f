"""Networks of Song et al. 2021 (arXiv 2011.13456) as their PyTorch checkpoints have them."""
