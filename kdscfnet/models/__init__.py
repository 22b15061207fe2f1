"""The network: three backbones behind one contract, and SCFNet on top."""
