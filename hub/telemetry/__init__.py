"""What machines measure of themselves: samples, and five-minute rollups of them."""
