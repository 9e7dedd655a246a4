"""Layer-N features and what can be read from them."""
