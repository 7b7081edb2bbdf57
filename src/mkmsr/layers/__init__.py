"""Layers of the networks: tensors in, tensors out. They know no batch type, no settings class and no data set."""
