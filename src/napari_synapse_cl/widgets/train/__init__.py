"""Train contrastive: settings, start, and what is seen of a training."""
