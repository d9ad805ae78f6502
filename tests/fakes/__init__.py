"""The domain's ports without any real part behind them."""
