"""Which settings of the inference libraries suit a device: each is changed alone and measured beside the default."""
