"""Networks called (x, t, condition). Any nn.Module with this call works in their place."""
