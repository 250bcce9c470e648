"""Between the outside and the jobs: payloads, telemetry, and what a terminal shows."""
