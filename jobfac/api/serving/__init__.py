"""The HTTP server: connections and their limits, and the middleware of every request."""
