"""A batch whose memory, state and caches stay on a device, in rows that keep their place."""
