"""Float against quantized: metrics, latency, report."""
