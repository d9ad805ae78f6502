"""What the cluster's network lets through."""
