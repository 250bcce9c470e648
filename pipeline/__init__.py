"""The jobs, and the only place that knows the order of their steps."""
