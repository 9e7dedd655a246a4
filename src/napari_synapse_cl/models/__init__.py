"""The VGG3D network, its projection head, the loss and checkpoint files."""
