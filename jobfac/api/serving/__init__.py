"""The HTTP server: connections, their limits, and what guards every request."""
