"""Shards that are quick to read: written, resumed, verified."""
