"""Bounded connections and HTTP: no server holds a caller past its time, or fills its memory."""
