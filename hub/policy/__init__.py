"""What a tenant forbids its machines, before anything is sent."""
